//! Fuzzes the WebSocket frames of a client, cut anywhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanout::fuzz::frames(bytes));
