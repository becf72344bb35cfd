//! Reads JSON objects that come from outside, and refuses all other JSON values.
//!
//! A derived `Deserialize` would also accept an array in place of an object, with the fields by position.

use schemars::{Schema, SchemaGenerator};
use serde::de::{DeserializeOwned, Error as _};
use serde_json::value::RawValue;

/// Makes the JSON schema of a type.
pub type SchemaFn = fn(&mut SchemaGenerator) -> Schema;

/// Whether the text begins like a JSON object.
#[must_use]
pub fn begins_object(text: &[u8]) -> bool {
    text.iter().find(|byte| !b" \t\r\n".contains(byte)) == Some(&b'{')
}

/// Reads a JSON object.
///
/// # Errors
/// When the text is anything else, or an object that does not match the type.
pub fn object<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    if !begins_object(text) {
        return Err(serde_json::Error::custom("not a JSON object"));
    }
    serde_json::from_slice(text)
}

/// The text of a JSON object that gets further fields without being read: their names must be new.
#[derive(Debug)]
pub struct ObjectText(String);

impl ObjectText {
    /// An object as it was serialised; one without fields where there is none.
    #[must_use]
    pub fn new(object: Option<&RawValue>) -> Self {
        let text = object.map_or("{}", RawValue::get);
        Self(text.strip_suffix('}').unwrap_or("{").to_owned())
    }

    /// Adds fields, given as the text between the braces of an object.
    pub fn add_fields(&mut self, fields: &str) {
        if !fields.is_empty() {
            if !self.0.ends_with('{') {
                self.0.push(',');
            }
            self.0.push_str(fields);
        }
    }

    /// Adds all fields of another object.
    pub fn add_all_of(&mut self, object: &str) {
        self.add_fields(object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default());
    }

    /// The text of the whole object.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
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
    fn array_is_refused_as_an_object() {
        assert_eq!(object::<Pair>(b" \r\n\t{\"b\":2,\"a\":1}").expect("an object"), Pair { a: 1, b: 2 });
        for text in ["[1,2]", " [1,2]", "[[1,2]]", "1", "\"{}\"", "", "\u{feff}{\"a\":1,\"b\":2}"] {
            assert!(object::<Pair>(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn object_text_is_one_object_with_all_fields() {
        let base = RawValue::from_string(r#"{"a":{"b":1}}"#.to_owned()).expect("JSON");
        for (object, expected) in
            [(None, r#"{"c":2,"d":3,"e":4}"#), (Some(&*base), r#"{"a":{"b":1},"c":2,"d":3,"e":4}"#)]
        {
            let mut text = ObjectText::new(object);
            text.add_fields("");
            text.add_fields(r#""c":2,"d":3"#);
            text.add_all_of(r#"{"e":4}"#);
            text.add_all_of("{}");
            assert_eq!(text.finish(), expected);
        }
    }

    proptest! {
        #[test]
        fn object_is_recognised_by_its_beginning(text in "[ \t\r\n]{0,3}[\\[{1\"tn][a-z\"{}\\[\\]:,0-9]{0,12}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                prop_assert_eq!(begins_object(text.as_bytes()), value.is_object(), "{}", text);
            }
        }
    }
}
