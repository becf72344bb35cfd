//! Fuzzes the body of a request of the topics dialect: multipart, a form or JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| api::fuzz::body(bytes));
