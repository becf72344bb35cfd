//! Reads JSON and cursors from clients: every failure names the field.
//!
//! What must hold: only an object is read as one, at any depth; an array of its fields is refused.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol::{clock::Timestamp, error::Error, json::begins_object};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, IgnoredAny},
};
use serde_json::{Map, Value};

/// Reads a JSON object of that form.
pub(super) fn parse_object<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    if !begins_object(text) {
        let is_json = serde_json::from_slice::<IgnoredAny>(text).is_ok();
        let detail = if is_json { "The body must be a JSON object." } else { "The body is not JSON." };
        return Err(Error::bad_request(detail));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if !inner.is_data() {
            return Error::bad_request("The body is not JSON.");
        }
        // The place in the text helps nobody who sees the field's name.
        let reason = inner.to_string();
        let reason = reason.split(" at line ").next().unwrap_or("");
        Error::bad_request(if path == "." { format!("{reason}.") } else { format!("{path}: {reason}.") })
    })?;
    deserializer.end().map_err(|_| Error::bad_request("The body is not JSON."))?;
    Ok(value)
}

/// Reads a field that is an object, null or absent.
pub(super) fn deserialize_object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let Some(fields) = Option::<Map<String, Value>>::deserialize(deserializer)? else { return Ok(None) };
    T::deserialize(Value::Object(fields)).map(Some).map_err(D::Error::custom)
}

/// A cursor: text that clients give back as they got it.
pub(super) fn encode_cursor(text: &impl ToString) -> String {
    URL_SAFE_NO_PAD.encode(text.to_string())
}

/// The text of a cursor, read by `read`.
///
/// # Errors
/// When it was not given out.
pub(super) fn decode_cursor<T>(cursor: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Error> {
    let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    require_cursor(text.and_then(|text| read(&text)))
}

/// What a cursor says, if it could be read.
///
/// # Errors
/// When it could not.
pub(super) fn require_cursor<T>(read: Option<T>) -> Result<T, Error> {
    read.ok_or_else(|| Error::bad_request("cursor: must be one that was given as `next`."))
}

/// A moment in a cursor.
pub(super) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    serde_json::from_value(text.into()).ok()
}

/// They are of that form, or refused with a reason: for tests, which any bytes must survive.
#[cfg(any(test, fuzzing))]
pub(super) fn assert_parsed_or_refused<T: DeserializeOwned>(bytes: &[u8]) {
    if let Err(error) = parse_object::<T>(bytes) {
        assert_eq!(error.code, protocol::error::ErrorCode::BadRequest);
        assert!(!error.detail.is_empty());
    }
}

/// What clients may send, for the decoders' tests.
#[cfg(test)]
pub(super) mod any {
    use proptest::{collection::vec, prelude::*};
    use serde_json::Value;

    /// Keys that dialects know; some value under one of them is what a decoder gets to see.
    const KEYS: [&str; 28] = [
        "name",
        "description",
        "private",
        "team",
        "users",
        "kind",
        "message",
        "client_id",
        "user",
        "message_id",
        "username",
        "business",
        "room_pk",
        "since",
        "epoch",
        "channel",
        "msg_text",
        "msg_id",
        "edited_msg_text",
        "msg_id_list",
        "limit",
        "category",
        "owner",
        "abonent",
        "room_id",
        "author",
        "id",
        "type",
    ];

    fn scalar() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (0..3_u64).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            "[a-z]{1,6}-[0-9]{1,3}".prop_map(Value::from),
        ]
    }

    /// Any JSON.
    pub(in crate::dialects) fn value() -> impl Strategy<Value = Value> {
        let key = prop_oneof![3 => prop::sample::select(&KEYS[..]).prop_map(str::to_owned), 1 => ".{0,8}"];
        scalar().prop_recursive(3, 32, 8, move |inner| {
            let pairs = vec((key.clone(), inner.clone()), 0..8);
            prop_oneof![
                vec(inner, 0..4).prop_map(Value::from),
                pairs.prop_map(|pairs| pairs.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    /// Any bytes, most of them JSON.
    pub(in crate::dialects) fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            1 => vec(any::<u8>(), 0..64),
            4 => value().prop_map(|value| value.to_string().into_bytes()),
        ]
    }
}
