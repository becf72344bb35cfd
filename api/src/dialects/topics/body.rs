//! The fields of a body: multipart, a form or JSON.

use std::{collections::HashMap, error::Error as _};

use axum::{
    RequestExt as _,
    body::{self, Body, HttpBody as _},
    extract::{
        Multipart, Request,
        multipart::{Field, MultipartError},
    },
    http::{StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::LengthLimitError;
use serde_json::Value;

use super::errors::Refusal;
use crate::{dialects::http, media::PICTURE_MAX};

/// The largest body that holds no files, and the largest text beside a file.
const TEXT_MAX: usize = 256 << 10;
/// The fields that are read at all.
const FIELDS: [&str; 4] = ["title", "room", "img", "description"];

/// What a field was given.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    Null,
    Text(String),
    File(Bytes),
    /// JSON that is no text, as it was written.
    Other(String),
}

/// The fields of a body; of several of one name the last.
#[derive(Debug, Default)]
pub(super) struct Fields {
    given: HashMap<&'static str, Given>,
    /// Forms can't say that a field is absent: they send it empty.
    pub(super) is_form: bool,
}

impl Fields {
    /// Reads a body by its type. No body has no fields.
    pub(super) async fn read(request: Request) -> Result<Self, Refusal> {
        let (request, is_too_long) = http::limited(request);
        if is_too_long {
            return Err(Refusal::too_large());
        }
        let header = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let whole = header.unwrap_or("").to_owned();
        let media_type = whole.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        match media_type.as_str() {
            "multipart/form-data" => Self::multipart(request).await,
            "application/x-www-form-urlencoded" => Ok(Self::form(&text(request.into_body()).await?)),
            "application/json" => Self::json(&text(request.into_body()).await?),
            _ if text(request.into_body()).await?.is_empty() => Ok(Self::default()),
            _ => Err(Refusal::unsupported(&whole)),
        }
    }

    /// Takes what a field was given; `None` where it is absent.
    pub(super) fn take(&mut self, name: &str) -> Option<Given> {
        self.given.remove(name)
    }

    fn put(&mut self, name: &'static str, given: Given) {
        self.given.insert(name, given);
    }

    async fn multipart(request: Request) -> Result<Self, Refusal> {
        let mut parts: Multipart = request
            .extract()
            .await
            .map_err(|_| Refusal::unreadable("Multipart form", "Invalid boundary in multipart: None"))?;
        let mut fields = Self { is_form: true, ..Self::default() };
        while let Some(part) = parts.next_field().await.map_err(|error| broken(&error))? {
            let Some(name) = part.name().and_then(known) else { continue };
            match part.file_name().map(str::is_empty) {
                None => {
                    let text = read(part, TEXT_MAX).await?;
                    fields.put(name, Given::Text(String::from_utf8_lossy(&text).into_owned()));
                }
                // A browser's way to say that no file was chosen.
                Some(true) => {}
                Some(false) => fields.put(name, Given::File(read(part, PICTURE_MAX).await?)),
            }
        }
        Ok(fields)
    }

    fn form(body: &[u8]) -> Self {
        let mut fields = Self { is_form: true, ..Self::default() };
        for (name, value) in form_urlencoded::parse(body) {
            if let Some(name) = known(&name) {
                fields.put(name, Given::Text(value.into_owned()));
            }
        }
        fields
    }

    fn json(body: &[u8]) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let value: Value =
            serde_json::from_slice(body).map_err(|error| Refusal::unreadable("JSON", &error.to_string()))?;
        let kind = match value {
            Value::Object(object) => {
                let mut fields = Self::default();
                for (name, value) in object {
                    if let Some(name) = known(&name) {
                        fields.put(name, value.into());
                    }
                }
                return Ok(fields);
            }
            Value::Null => return Err(Refusal::invalid_whole("No data provided")),
            Value::Array(_) => "list",
            Value::String(_) => "str",
            Value::Bool(_) => "bool",
            Value::Number(number) if number.is_f64() => "float",
            Value::Number(_) => "int",
        };
        Err(Refusal::invalid_whole(&format!("Invalid data. Expected a dictionary, but got {kind}.")))
    }
}

impl From<Value> for Given {
    /// Numbers are taken for text, as the framework does.
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::String(text) => Self::Text(text),
            Value::Number(number) => Self::Text(number.to_string()),
            other => Self::Other(other.to_string()),
        }
    }
}

/// A field that is read at all.
fn known(name: &str) -> Option<&'static str> {
    FIELDS.into_iter().find(|known| *known == name)
}

/// A part; of a longer one a byte more than `max`, so that it is seen to be longer. The rest is read, since
/// clients send all of it before they listen, and not kept.
async fn read(mut part: Field<'_>, max: usize) -> Result<Bytes, Refusal> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = part.chunk().await.map_err(|error| broken(&error))? {
        let room = max + 1 - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(bytes.freeze())
}

async fn text(body: Body) -> Result<Bytes, Refusal> {
    if body.size_hint().lower() > TEXT_MAX as u64 {
        return Err(Refusal::too_large());
    }
    body::to_bytes(body, TEXT_MAX).await.map_err(|error| {
        if error.source().is_some_and(|source| source.is::<LengthLimitError>()) {
            Refusal::too_large()
        } else {
            Refusal::detail(StatusCode::BAD_REQUEST, "The body could not be read.")
        }
    })
}

fn broken(error: &MultipartError) -> Refusal {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Refusal::too_large()
    } else {
        Refusal::unreadable("Multipart form", &error.body_text())
    }
}

/// Reads a body of that type, which any bytes must survive: a wrong one is refused as such.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(kind: &str, body: Bytes) {
    let request = Request::post("/").header(header::CONTENT_TYPE, kind).body(body.into()).expect("a request");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    if let Err(refusal) = runtime.block_on(Fields::read(request)) {
        let status = axum::response::IntoResponse::into_response(refusal).status();
        assert!(matches!(status.as_u16(), 400 | 413 | 415), "{status}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::dialects::{read::any, topics::wire};

    /// Bodies as their types say, few of them whole.
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
    fn json_is_read_as_the_framework_does() {
        let body = br#"{"title": 5, "room": null, "img": ["x"], "description": "a", "more": 1}"#;
        let mut fields = Fields::json(body).expect("an object");
        assert_eq!(fields.take("title"), Some(Given::Text("5".to_owned())));
        assert_eq!(fields.take("room"), Some(Given::Null));
        assert_eq!(fields.take("img"), Some(Given::Other(r#"["x"]"#.to_owned())));
        assert_eq!(fields.take("description"), Some(Given::Text("a".to_owned())));
        assert!(fields.given.is_empty(), "what is not known is passed over");
    }

    #[test]
    fn the_document_names_what_is_read() {
        let schema = schemars::schema_for!(wire::NewChat).to_value();
        let mut named: Vec<_> = schema["properties"].as_object().expect("fields").keys().collect();
        let mut read = FIELDS.to_vec();
        named.sort_unstable();
        read.sort_unstable();
        assert_eq!(named, read);
    }

    #[test]
    fn of_several_the_last_counts() {
        let mut fields = Fields::form(b"title=a&title=b+c%21&room=films");
        assert_eq!(fields.take("title"), Some(Given::Text("b c!".to_owned())));
        assert_eq!(fields.take("img"), None);
    }
}
