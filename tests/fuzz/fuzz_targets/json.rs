//! Fuzzes bodies, frames, queries and cursors of the dialects that use JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| api::fuzz::json(bytes));
