//! Reads JSON objects from outside, and nothing else in their place.
//!
//! A derived reader takes an array for an object, with its fields by position: of what others send, none is one.

use schemars::{Schema, SchemaGenerator};
use serde::de::{DeserializeOwned, Error as _};

/// Makes the JSON schema of a type.
pub type SchemaFn = fn(&mut SchemaGenerator) -> Schema;

/// Whether the text begins as a JSON object does.
#[must_use]
pub fn begins_object(text: &[u8]) -> bool {
    text.iter().find(|byte| !b" \t\r\n".contains(byte)) == Some(&b'{')
}

/// Reads a JSON object.
///
/// # Errors
/// When the text is anything else, or an object of another form.
pub fn object<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    if !begins_object(text) {
        return Err(serde_json::Error::custom("not a JSON object"));
    }
    serde_json::from_slice(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Pair {
        a: u64,
        b: u64,
    }

    #[test]
    fn array_is_no_object() {
        assert_eq!(object::<Pair>(b" \r\n\t{\"b\":2,\"a\":1}").expect("an object"), Pair { a: 1, b: 2 });
        for text in ["[1,2]", " [1,2]", "[[1,2]]", "1", "\"{}\"", "", "\u{feff}{\"a\":1,\"b\":2}"] {
            assert!(object::<Pair>(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn only_an_object_begins_as_one(text in "[ \t\r\n]{0,3}[\\[{1\"tn][a-z\"{}\\[\\]:,0-9]{0,12}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                prop_assert_eq!(begins_object(text.as_bytes()), value.is_object(), "{}", text);
            }
        }
    }
}
