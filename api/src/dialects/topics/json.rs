//! Reads JSON bodies as Python does: a number becomes the text that Python's `str` makes of it, and text may
//! contain unpaired surrogates.

use std::{borrow::Cow, fmt};

use protocol::json::begins_object;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    body::{FieldValue, FormFields, known_field},
    errors::Rejection,
};

/// Reads the fields of a JSON body; an empty body has none.
pub(super) fn parse_body(body: &[u8]) -> Result<FormFields, Rejection> {
    if body.is_empty() {
        return Ok(FormFields::default());
    }
    let unreadable = |error: serde_json::Error| Rejection::unreadable("JSON", &error.to_string());
    if begins_object(body) {
        return serde_json::from_slice(body).map_err(unreadable);
    }
    let whole: &RawValue = serde_json::from_slice(body).map_err(unreadable)?;
    let kind = match whole.get().as_bytes() {
        [b'n', ..] => return Err(Rejection::invalid_whole("No data provided")),
        [b'[', ..] => "list",
        [b'"', ..] => "str",
        [b't' | b'f', ..] => "bool",
        number if is_integer(number) => "int",
        _ => "float",
    };
    Err(Rejection::invalid_whole(&format!("Invalid data. Expected a dictionary, but got {kind}.")))
}

impl<'de> Deserialize<'de> for FormFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = FormFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FormFields, A::Error> {
                let mut fields = FormFields::default();
                while let Some(RawText(name)) = map.next_key()? {
                    match std::str::from_utf8(&name).ok().and_then(known_field) {
                        Some(name) => {
                            fields.put(name, parse_value(map.next_value()?).map_err(A::Error::custom)?);
                        }
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Parses a field's value from its JSON text.
fn parse_value(value: &RawValue) -> serde_json::Result<FieldValue> {
    let written = value.get();
    Ok(match written.as_bytes() {
        [b'n', ..] => FieldValue::Null,
        [b'"', ..] => {
            let RawText(bytes) = serde_json::from_str(written)?;
            text_or_surrogates(bytes)
        }
        [b'-' | b'0'..=b'9', ..] => FieldValue::Text(python_number(written).into_owned()),
        _ => FieldValue::OtherJson(written.to_owned()),
    })
}

/// A JSON text's bytes: UTF-8, with each unpaired surrogate encoded as three bytes (WTF-8).
struct RawText(Vec<u8>);

impl<'de> Deserialize<'de> for RawText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = RawText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E>(self, text: &str) -> Result<RawText, E> {
                Ok(RawText(text.as_bytes().to_vec()))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<RawText, E> {
                Ok(RawText(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

fn text_or_surrogates(bytes: Vec<u8>) -> FieldValue {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return FieldValue::Text(text),
        Err(error) => error.into_bytes(),
    };
    let (mut text, mut first) = (String::new(), None);
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        // An unpaired surrogate: three bytes that are not valid UTF-8.
        if let [0xed, high @ 0xa0..=0xbf, low, more @ ..] = rest {
            let half = 0xd000 | u16::from(high & 0x3f) << 6 | u16::from(low & 0x3f);
            first = first.or(Some(half));
            text.push(char::REPLACEMENT_CHARACTER);
            rest = more;
            continue;
        }
        let length = match std::str::from_utf8(rest) {
            Ok(_) => rest.len(),
            Err(error) => error.valid_up_to().max(1),
        };
        let (valid, more) = rest.split_at(length);
        text.push_str(&String::from_utf8_lossy(valid));
        rest = more;
    }
    match first {
        Some(half) => FieldValue::TextWithSurrogates(text, half),
        None => FieldValue::Text(text),
    }
}

fn is_integer(number: &[u8]) -> bool {
    !number.iter().any(|byte| b".eE".contains(byte))
}

/// A JSON number as Python's `str` writes it: an integer keeps its digits; a float is the shortest text of the
/// double, with an exponent below 1e-4 and from 1e16 on.
fn python_number(written: &str) -> Cow<'_, str> {
    if is_integer(written.as_bytes()) {
        return if written == "-0" { "0".into() } else { written.into() };
    }
    let Ok(number) = written.parse::<f64>() else { return written.into() };
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').expect("such a number has an exponent");
    match exponent.parse::<i32>().expect("a small number") {
        small @ (..-4 | 16..) => {
            let sign = if small < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", small.unsigned_abs()).into()
        }
        _ if number.fract() == 0.0 => format!("{number:.1}").into(),
        _ => number.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn title(value: &str) -> Option<FieldValue> {
        parse_body(format!("{{\"title\":{value}}}").as_bytes()).expect("an object").take("title")
    }

    #[test]
    fn json_is_read_like_the_framework() {
        let body = br#"{"title": 5, "room": null, "img": ["x"], "description": "a", "more": 1}"#;
        let mut fields = parse_body(body).expect("an object");
        assert_eq!(fields.take("title"), Some(FieldValue::Text("5".to_owned())));
        assert_eq!(fields.take("room"), Some(FieldValue::Null));
        assert_eq!(fields.take("img"), Some(FieldValue::OtherJson(r#"["x"]"#.to_owned())));
        assert_eq!(fields.take("description"), Some(FieldValue::Text("a".to_owned())));
        assert!(fields.values.is_empty(), "what is not known is passed over");
        let mut fields = parse_body(br#"{"title": "a", "\ud800": 1, "title": "b"}"#).expect("an object");
        assert_eq!(fields.take("title"), Some(FieldValue::Text("b".to_owned())), "the last one counts");
    }

    #[test]
    fn numbers_become_the_text_python_writes() {
        for (written, text) in [
            ("5", "5"),
            ("-0", "0"),
            ("0.0", "0.0"),
            ("-0.0", "-0.0"),
            ("1.50", "1.5"),
            ("1E2", "100.0"),
            ("5.96e29", "5.96e+29"),
            ("596000000000000000000000000000.0", "5.96e+29"),
            ("1e16", "1e+16"),
            ("9999999999999998.0", "9999999999999998.0"),
            ("1e15", "1000000000000000.0"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("1.25e-7", "1.25e-07"),
            ("5e-324", "5e-324"),
            ("1e400", "inf"),
            ("-1e400", "-inf"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("0.1000000000000000055511151231257827", "0.1"),
        ] {
            assert_eq!(title(written), Some(FieldValue::Text(text.to_owned())), "{written}");
        }
    }

    #[test]
    fn lone_surrogates_are_reported_and_pairs_are_text() {
        for (written, text, half) in [
            (r#""a\ud800b""#, "a\u{fffd}b", 0xd800),
            (r#""\udfff\ud83d""#, "\u{fffd}\u{fffd}", 0xdfff),
            (r#""ü\ud83d\ud83d\ude00""#, "ü\u{fffd}😀", 0xd83d),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}", 0xde00),
        ] {
            assert_eq!(
                title(written),
                Some(FieldValue::TextWithSurrogates(text.to_owned(), half)),
                "{written}"
            );
        }
        assert_eq!(title(r#""\ud83d\ude00ü""#), Some(FieldValue::Text("😀ü".to_owned())));
    }

    proptest! {
        #[test]
        fn json_text_round_trips(text in ".{0,20}") {
            let written = serde_json::to_string(&text).expect("JSON");
            prop_assert_eq!(title(&written), Some(FieldValue::Text(text)));
        }

        #[test]
        fn any_utf16_units_are_text_or_report_the_first_lone_surrogate(units in proptest::collection::vec(prop_oneof![any::<u16>(), 0xd7f0..0xe010_u16], 0..6)) {
            let written: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let decoded: Vec<_> = char::decode_utf16(units).collect();
            let first = decoded.iter().find_map(|one| one.as_ref().err().map(|error| error.unpaired_surrogate()));
            let text: String = decoded.into_iter().map(|one| one.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
            let expected = match first {
                Some(half) => FieldValue::TextWithSurrogates(text, half),
                None => FieldValue::Text(text),
            };
            prop_assert_eq!(title(&format!("\"{written}\"")), Some(expected));
        }
    }
}
