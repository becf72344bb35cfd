//! Fuzzes the WebSocket frames of a client, split at any byte.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanout::fuzz::frames(bytes));
