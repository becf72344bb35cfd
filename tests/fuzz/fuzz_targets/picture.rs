//! Fuzzes the check of a picture before it is stored.
#![no_main]

use std::panic;

// The check catches panics of the decoder; libFuzzer's panic hook would take them for failures.
libfuzzer_sys::fuzz_target!(init: panic::set_hook(Box::new(|_| ())), |bytes: &[u8]| api::fuzz::picture(bytes));
