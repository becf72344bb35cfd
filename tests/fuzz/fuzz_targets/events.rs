//! Fuzzes subjects and events of the log: an event that can be decoded is the same after encoding and decoding.
#![no_main]

use protocol::{event::{Event, EventName}, subject};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for name in EventName::ALL {
        if let Ok(event) = Event::decode(*name, bytes) {
            assert_eq!(Event::decode(*name, &event.encode()).expect("an encoded event can be decoded"), event);
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = (subject::parse(text), subject::parse_node_signal(text));
    }
});
