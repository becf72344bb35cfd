//! Parses JSON and cursors from clients; every error names the field.
//!
//! What must hold: a struct is parsed from a JSON object only, at any depth. Serde would also take an array of
//! the fields' values; that is refused.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol::{clock::Timestamp, error::Error, json::begins_object};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, IgnoredAny},
};
use serde_json::{Map, Value};

/// Parses a JSON object as a `T`.
///
/// # Errors
/// `BadRequest`, with the path of the field that is wrong.
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
        // Without serde's " at line … column …": the field's path is more useful.
        let reason = inner.to_string();
        let reason = reason.split(" at line ").next().unwrap_or("");
        Error::bad_request(if path == "." { format!("{reason}.") } else { format!("{path}: {reason}.") })
    })?;
    deserializer.end().map_err(|_| Error::bad_request("The body is not JSON."))?;
    Ok(value)
}

/// Deserializes an optional field that must be an object, or null. Fields also need `#[serde(default)]`.
pub(super) fn deserialize_object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let Some(fields) = Option::<Map<String, Value>>::deserialize(deserializer)? else { return Ok(None) };
    T::deserialize(Value::Object(fields)).map(Some).map_err(D::Error::custom)
}

/// Encodes a cursor as base64url, so that clients treat it as opaque.
pub(super) fn encode_cursor(text: &impl ToString) -> String {
    URL_SAFE_NO_PAD.encode(text.to_string())
}

/// Decodes a cursor and parses its text with `read`.
///
/// # Errors
/// `BadRequest`, when the cursor is malformed.
pub(super) fn decode_cursor<T>(cursor: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Error> {
    let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    require_cursor(text.and_then(|text| read(&text)))
}

/// Returns the parsed cursor.
///
/// # Errors
/// `BadRequest`, when it is `None`.
pub(super) fn require_cursor<T>(read: Option<T>) -> Result<T, Error> {
    read.ok_or_else(|| Error::bad_request("cursor: must be one that was given as `next`."))
}

/// Parses the timestamp in a cursor.
pub(super) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    serde_json::from_value(text.into()).ok()
}

/// Asserts that bytes either parse as a `T` or are refused as `BadRequest` with a reason.
#[cfg(any(test, fuzzing))]
pub(super) fn assert_parsed_or_refused<T: DeserializeOwned>(bytes: &[u8]) {
    if let Err(error) = parse_object::<T>(bytes) {
        assert_eq!(error.code, protocol::error::ErrorCode::BadRequest);
        assert!(!error.detail.is_empty());
    }
}

/// Strategies for client input, for the decoders' property tests.
#[cfg(test)]
pub(super) mod any {
    use proptest::{collection::vec, prelude::*};
    use serde_json::Value;

    /// Keys that the dialects read: random keys alone would hardly ever reach a field's parser.
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

    /// Any JSON value.
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

    /// Any bytes; four in five are JSON.
    pub(in crate::dialects) fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            1 => vec(any::<u8>(), 0..64),
            4 => value().prop_map(|value| value.to_string().into_bytes()),
        ]
    }
}
