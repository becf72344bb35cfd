//! A picture, before it is kept.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| api::fuzz::picture(bytes));
