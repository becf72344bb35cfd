//! Fuzzes the text of a frame: every text gets an answer envelope.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| fanout::fuzz::text(text));
