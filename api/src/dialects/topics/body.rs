//! Reads the fields of a body: multipart, urlencoded or JSON.

use std::{collections::HashMap, error::Error as _};

use axum::{
    body::{self, Body, HttpBody as _},
    extract::Request,
    http::{StatusCode, header},
};
use bytes::Bytes;
use http_body_util::LengthLimitError;

use super::{errors::Rejection, json, multipart};
use crate::dialects::http;

/// Maximum bytes of a body without files, and of a text field beside a file.
pub(super) const TEXT_MAX_BYTES: usize = 256 << 10;
/// The fields that are read; all others are ignored.
const FIELD_NAMES: [&str; 4] = ["title", "room", "img", "description"];

/// The value of a field, as the body has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FieldValue {
    Null,
    Text(String),
    /// JSON text with unpaired surrogates, each replaced by U+FFFD, and the first of those surrogates.
    TextWithSurrogates(String, u16),
    File(Bytes),
    /// A JSON value that is neither text, number nor null, as it was written.
    OtherJson(String),
}

/// The fields of a body; of several with one name, the last.
#[derive(Debug, Default)]
pub(super) struct FormFields {
    pub(super) values: HashMap<&'static str, FieldValue>,
    /// Whether the body is a form: forms send an absent field as an empty one.
    pub(super) is_form: bool,
}

impl FormFields {
    /// Reads a body by its `Content-Type`. An empty body has no fields.
    pub(super) async fn read(request: Request) -> Result<Self, Rejection> {
        let (request, is_too_long) = http::limit_body(request);
        if is_too_long {
            return Err(Rejection::too_large());
        }
        let header = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let whole = header.unwrap_or("").to_owned();
        let media_type = whole.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        match media_type.as_str() {
            "multipart/form-data" => multipart::parse_body(request, &whole).await,
            "application/x-www-form-urlencoded" => {
                Ok(Self::from_urlencoded(&read_text_body(request.into_body()).await?))
            }
            "application/json" => json::parse_body(&read_text_body(request.into_body()).await?),
            _ if read_text_body(request.into_body()).await?.is_empty() => Ok(Self::default()),
            _ => Err(Rejection::unsupported_media_type(&whole)),
        }
    }

    /// Removes and returns the value of a field; `None` where it is absent.
    pub(super) fn take(&mut self, name: &str) -> Option<FieldValue> {
        self.values.remove(name)
    }

    pub(super) fn put(&mut self, name: &'static str, given: FieldValue) {
        self.values.insert(name, given);
    }

    /// Sets a form's text field, unless a file has the same name.
    pub(super) fn put_unless_file(&mut self, name: &'static str, text: String) {
        if !matches!(self.values.get(name), Some(FieldValue::File(_))) {
            self.put(name, FieldValue::Text(text));
        }
    }

    fn from_urlencoded(body: &[u8]) -> Self {
        let mut fields = Self { is_form: true, ..Self::default() };
        for (name, value) in form_urlencoded::parse(body) {
            if let Some(name) = known_field(&name) {
                fields.put(name, FieldValue::Text(value.into_owned()));
            }
        }
        fields
    }
}

/// The static name of a field that is read; `None` for any other.
pub(super) fn known_field(name: &str) -> Option<&'static str> {
    FIELD_NAMES.into_iter().find(|known| *known == name)
}

async fn read_text_body(body: Body) -> Result<Bytes, Rejection> {
    if body.size_hint().lower() > TEXT_MAX_BYTES as u64 {
        return Err(Rejection::too_large());
    }
    body::to_bytes(body, TEXT_MAX_BYTES).await.map_err(|error| {
        if error.source().is_some_and(|source| source.is::<LengthLimitError>()) {
            Rejection::too_large()
        } else {
            Rejection::with_detail(StatusCode::BAD_REQUEST, "The body could not be read.")
        }
    })
}

/// Reads a body of this `Content-Type`, and asserts that an invalid one is refused with 400, 413 or 415; for
/// property tests and fuzzing.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(kind: &str, body: Bytes) {
    let request = Request::post("/").header(header::CONTENT_TYPE, kind).body(body.into()).expect("a request");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    if let Err(refusal) = runtime.block_on(FormFields::read(request)) {
        let status = axum::response::IntoResponse::into_response(refusal).status();
        assert!(matches!(status.as_u16(), 400 | 413 | 415), "{status}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::dialects::{json::any, topics::wire};

    /// Content types with matching bodies, few of them well-formed.
    fn bodies() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
        let part = (
            "(name=\"?(title|room|img|x)\"?)?",
            "(; filename=\"?a?\"?)?",
            "[a-z:/ ]{0,12}(\r\n){0,2}",
            vec(any::<u8>(), 0..20),
        );
        let multipart = vec(part, 0..4).prop_map(|parts| {
            let mut body = Vec::new();
            for (name, file, more, bytes) in parts {
                let head = format!("--line\r\nContent-Disposition: form-data; {name}{file}\r\n{more}\r\n");
                body.extend([head.as_bytes(), &bytes, b"\r\n"].concat());
            }
            body.extend(b"--line--\r\n");
            ("multipart/form-data; boundary=line", body)
        });
        let cut = multipart.clone().prop_map(|(kind, body)| (kind, body[..body.len() * 2 / 3].to_vec()));
        prop_oneof![
            multipart,
            cut,
            any::bytes().prop_map(|bytes| ("application/json", bytes)),
            "[a-z&=%+0-9]{0,40}".prop_map(|form| ("application/x-www-form-urlencoded", form.into_bytes())),
            vec(any::<u8>(), 0..40).prop_map(|bytes| ("application/x-www-form-urlencoded", bytes)),
            any::bytes().prop_map(|bytes| ("multipart/form-data", bytes)),
            any::bytes().prop_map(|bytes| ("text/plain", bytes)),
        ]
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused((kind, body) in bodies()) {
            read_any(kind, body.into());
        }
    }

    #[test]
    fn topic_body_fields_are_named_in_the_document() {
        let schema = schemars::schema_for!(wire::NewChat).to_value();
        let mut named: Vec<_> = schema["properties"].as_object().expect("fields").keys().collect();
        let mut read = FIELD_NAMES.to_vec();
        named.sort_unstable();
        read.sort_unstable();
        assert_eq!(named, read);
    }

    #[test]
    fn repeated_form_field_counts_by_its_last_value() {
        let mut fields = FormFields::from_urlencoded(b"title=a&title=b+c%21&room=films");
        assert_eq!(fields.take("title"), Some(FieldValue::Text("b c!".to_owned())));
        assert_eq!(fields.take("img"), None);
    }
}
