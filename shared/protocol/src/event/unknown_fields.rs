//! Finds events with fields that only a later version knows.

use std::cell::RefCell;

use serde_json::Value;

use super::Event;

impl Event {
    /// Whether the payload that this event was decoded from has fields that this version does not know.
    ///
    /// Events of this version are encoded as they were read, so only others are compared field by field.
    #[must_use]
    pub fn lacks_fields_of(&self, payload: &[u8]) -> bool {
        if self.encodes_to(payload) {
            return false;
        }
        let known = serde_json::from_slice(&self.encode());
        let (Ok(known), Ok(all)) = (known, serde_json::from_slice(payload)) else { return false };
        lacks_fields(&known, &all)
    }

    /// Whether this version encodes the event as exactly these bytes. One buffer per thread avoids allocations.
    fn encodes_to(&self, payload: &[u8]) -> bool {
        thread_local!(static ENCODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
        ENCODED.with_borrow_mut(|encoded| {
            encoded.clear();
            let is_same = self.write_to(&mut *encoded).is_ok() && encoded.as_slice() == payload;
            // Frees memory that a long event has taken.
            encoded.shrink_to(BUFFER_BYTES_MAX);
            is_same
        })
    }
}

/// Capacity of the buffer that is kept between two events.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// Whether `all` has a field, at any depth, that `known` lacks. A null field counts as absent.
fn lacks_fields(known: &Value, all: &Value) -> bool {
    match (known, all) {
        (Value::Object(known), Value::Object(all)) => all.iter().any(|(name, value)| match known.get(name) {
            Some(known) => lacks_fields(known, value),
            None => !value.is_null(),
        }),
        (Value::Array(known), Value::Array(all)) => {
            known.iter().zip(all).any(|(known, all)| lacks_fields(known, all))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventName;

    const GOLDEN: &str = include_str!("golden.txt");

    fn decode_line(line: &str) -> (Event, Value) {
        let (name, payload) = line.split_once(' ').expect("a name and a payload");
        let event = Event::decode(EventName::parse(name).expect("a known event"), payload.as_bytes());
        (event.expect("a payload of its form"), serde_json::from_str(payload).expect("JSON"))
    }

    /// Every object in a payload, as a path to it.
    fn object_paths(value: &Value, path: &str, paths: &mut Vec<String>) {
        let Value::Object(fields) = value else { return };
        paths.push(path.to_owned());
        for (name, value) in fields {
            object_paths(value, &format!("{path}/{name}"), paths);
        }
    }

    #[test]
    fn events_of_this_version_have_no_unknown_fields() {
        for line in GOLDEN.lines() {
            let (event, payload) = decode_line(line);
            assert!(!event.lacks_fields_of(payload.to_string().as_bytes()), "{line}");
            let pretty_printed = serde_json::to_vec_pretty(&payload).expect("JSON");
            assert!(!event.lacks_fields_of(&pretty_printed), "{line}");
        }
    }

    #[test]
    fn unknown_field_is_found_wherever_it_is_dropped() {
        for line in GOLDEN.lines() {
            let (_, payload) = decode_line(line);
            let mut paths = Vec::new();
            object_paths(&payload, "", &mut paths);
            for path in paths {
                let mut with_unknown_field = payload.clone();
                let object =
                    with_unknown_field.pointer_mut(&path).and_then(Value::as_object_mut).expect("an object");
                object.insert("since_later".to_owned(), Value::from(7));
                let with_unknown_field = with_unknown_field.to_string();
                let name = EventName::parse(line.split(' ').next().expect("a name")).expect("a known event");
                // In an enum a further field is another variant, which can't be decoded.
                let Ok(event) = Event::decode(name, with_unknown_field.as_bytes()) else { continue };
                let encoded = String::from_utf8(event.encode().to_vec()).expect("UTF-8");
                let is_stored = encoded.contains("since_later");
                assert_eq!(
                    event.lacks_fields_of(with_unknown_field.as_bytes()),
                    !is_stored,
                    "{with_unknown_field}"
                );
            }
        }
    }
}
