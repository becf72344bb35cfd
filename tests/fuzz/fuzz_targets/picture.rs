//! Fuzzes the check of a picture before it is kept.
#![no_main]

use std::panic;

// A decoder's panic is an answer, which libFuzzer's own hook would take for a failure.
libfuzzer_sys::fuzz_target!(init: panic::set_hook(Box::new(|_| ())), |bytes: &[u8]| api::fuzz::picture(bytes));
