//! Fuzzes the text of a frame: whatever it is, the answer is an envelope.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| fanout::fuzz::text(text));
