//! JSON bodies, read as the original's language does: numbers are the text that it makes of them, and text may hold
//! halves of surrogate pairs.

use std::{borrow::Cow, fmt};

use protocol::json::begins_object;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    body::{Fields, Given, known},
    errors::Refusal,
};

/// Reads the fields of a body; none of no body.
pub(super) fn read(body: &[u8]) -> Result<Fields, Refusal> {
    if body.is_empty() {
        return Ok(Fields::default());
    }
    let unreadable = |error: serde_json::Error| Refusal::unreadable("JSON", &error.to_string());
    if begins_object(body) {
        return serde_json::from_slice(body).map_err(unreadable);
    }
    let whole: &RawValue = serde_json::from_slice(body).map_err(unreadable)?;
    let kind = match whole.get().as_bytes() {
        [b'n', ..] => return Err(Refusal::invalid_whole("No data provided")),
        [b'[', ..] => "list",
        [b'"', ..] => "str",
        [b't' | b'f', ..] => "bool",
        number if is_whole(number) => "int",
        _ => "float",
    };
    Err(Refusal::invalid_whole(&format!("Invalid data. Expected a dictionary, but got {kind}.")))
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some(Text(name)) = map.next_key()? {
                    match std::str::from_utf8(&name).ok().and_then(known) {
                        Some(name) => fields.put(name, given(map.next_value()?).map_err(A::Error::custom)?),
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// What a field is given by a value as it is written.
fn given(value: &RawValue) -> serde_json::Result<Given> {
    let written = value.get();
    Ok(match written.as_bytes() {
        [b'n', ..] => Given::Null,
        [b'"', ..] => {
            let Text(bytes) = serde_json::from_str(written)?;
            text(bytes)
        }
        [b'-' | b'0'..=b'9', ..] => Given::Text(number(written).into_owned()),
        _ => Given::Other(written.to_owned()),
    })
}

/// A text's bytes: UTF-8, in which a half of a surrogate pair is written as if it were a character.
struct Text(Vec<u8>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.as_bytes().to_vec()))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

fn text(bytes: Vec<u8>) -> Given {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Given::Text(text),
        Err(error) => error.into_bytes(),
    };
    let (mut text, mut first) = (String::new(), None);
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        // A half is three bytes, none of which is UTF-8 there.
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
        Some(half) => Given::Surrogates(text, half),
        None => Given::Text(text),
    }
}

fn is_whole(number: &[u8]) -> bool {
    !number.iter().any(|byte| b".eE".contains(byte))
}

/// A number as the original's language writes it: whole ones digit by digit, others as the shortest text of a
/// double, with an exponent below 1e-4 and from 1e16 on.
fn number(written: &str) -> Cow<'_, str> {
    if is_whole(written.as_bytes()) {
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

    fn title(value: &str) -> Option<Given> {
        read(format!("{{\"title\":{value}}}").as_bytes()).expect("an object").take("title")
    }

    #[test]
    fn json_is_read_as_the_framework_does() {
        let body = br#"{"title": 5, "room": null, "img": ["x"], "description": "a", "more": 1}"#;
        let mut fields = read(body).expect("an object");
        assert_eq!(fields.take("title"), Some(Given::Text("5".to_owned())));
        assert_eq!(fields.take("room"), Some(Given::Null));
        assert_eq!(fields.take("img"), Some(Given::Other(r#"["x"]"#.to_owned())));
        assert_eq!(fields.take("description"), Some(Given::Text("a".to_owned())));
        assert!(fields.given.is_empty(), "what is not known is passed over");
        let mut fields = read(br#"{"title": "a", "\ud800": 1, "title": "b"}"#).expect("an object");
        assert_eq!(fields.take("title"), Some(Given::Text("b".to_owned())), "the last one counts");
    }

    #[test]
    fn numbers_are_the_text_that_python_makes_of_them() {
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
            assert_eq!(title(written), Some(Given::Text(text.to_owned())), "{written}");
        }
    }

    #[test]
    fn halves_of_pairs_are_named_and_whole_pairs_are_text() {
        for (written, text, half) in [
            (r#""a\ud800b""#, "a\u{fffd}b", 0xd800),
            (r#""\udfff\ud83d""#, "\u{fffd}\u{fffd}", 0xdfff),
            (r#""ü\ud83d\ud83d\ude00""#, "ü\u{fffd}😀", 0xd83d),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}", 0xde00),
        ] {
            assert_eq!(title(written), Some(Given::Surrogates(text.to_owned(), half)), "{written}");
        }
        assert_eq!(title(r#""\ud83d\ude00ü""#), Some(Given::Text("😀ü".to_owned())));
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in ".{0,20}") {
            let written = serde_json::to_string(&text).expect("JSON");
            prop_assert_eq!(title(&written), Some(Given::Text(text)));
        }

        #[test]
        fn any_units_are_text_or_name_their_first_half(units in proptest::collection::vec(prop_oneof![any::<u16>(), 0xd7f0..0xe010_u16], 0..6)) {
            let written: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let decoded: Vec<_> = char::decode_utf16(units).collect();
            let first = decoded.iter().find_map(|one| one.as_ref().err().map(|error| error.unpaired_surrogate()));
            let text: String = decoded.into_iter().map(|one| one.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
            let expected = match first {
                Some(half) => Given::Surrogates(text, half),
                None => Given::Text(text),
            };
            prop_assert_eq!(title(&format!("\"{written}\"")), Some(expected));
        }
    }
}
