//! Reads multipart bodies: RFC 7578, with the leniency of Django, which this dialect imitates.

use std::error::Error as _;

use axum::extract::Request;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http_body_util::LengthLimitError;
use multer::{Field, Multipart};

use super::{
    body::{FieldValue, FormFields, TEXT_MAX_BYTES, known_field},
    errors::Rejection,
    header_parameters::parameter,
};
use crate::pictures::PICTURE_MAX_BYTES;

/// Maximum bytes of a picture in base64: 4/3 of its size and a line break after every 76 characters, rounded up
/// to 7/5.
const BASE64_MAX_BYTES: usize = PICTURE_MAX_BYTES / 5 * 7;

/// Reads the fields of a multipart body; `content_type` is its header.
pub(super) async fn parse_body(request: Request, content_type: &str) -> Result<FormFields, Rejection> {
    let boundary = parameter(content_type.as_bytes(), "boundary").filter(|boundary| is_boundary(boundary));
    let Some(boundary) = boundary else {
        return Err(Rejection::unreadable("Multipart form", "Invalid boundary in multipart: None"));
    };
    let body = request.into_body().into_data_stream();
    let mut parts = Multipart::new(body, boundary);
    let mut fields = FormFields { is_form: true, ..FormFields::default() };
    while let Some(part) = parts.next_field().await.map_err(|error| multipart_error(&error))? {
        let header = |name: &str| part.headers().get(name).map(|value| value.as_bytes().to_vec());
        let Some(disposition) = header("content-disposition") else { continue };
        let name = parameter(&disposition, "name");
        let Some(name) = name.as_deref().map(str::trim).and_then(known_field) else { continue };
        let encoding = header("content-transfer-encoding").unwrap_or_default();
        let is_base64 = encoding.trim_ascii().eq_ignore_ascii_case(b"base64");
        // Browsers send an empty file name where the user chose no file.
        let file = parameter(&disposition, "filename").filter(|file| !file.is_empty());
        match file.as_deref().map(is_file_name) {
            None => {
                let bytes = read_part(part, TEXT_MAX_BYTES).await?;
                let decoded = Some(&bytes).filter(|_| is_base64).and_then(|bytes| decode_base64(bytes));
                let bytes = decoded.unwrap_or(bytes);
                fields.put_unless_file(name, String::from_utf8_lossy(&bytes).into_owned());
            }
            Some(false) => {}
            Some(true) => fields.put(name, FieldValue::File(file_bytes(part, is_base64).await?)),
        }
    }
    Ok(fields)
}

/// Whether a text may be a boundary. RFC 2046, 5.1.1 allows 70 characters; Django takes up to 201 printable ones.
fn is_boundary(text: &str) -> bool {
    (1..=201).contains(&text.len())
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && !text.ends_with(' ')
}

/// Whether a file name is more than folders: `a/`, `.` and `..` are not.
fn is_file_name(name: &str) -> bool {
    let last = name.rsplit(['/', '\\']).next().unwrap_or("");
    let last: String = last.chars().filter(|letter| !letter.is_control()).collect();
    !["", ".", ".."].contains(&last.as_str())
}

async fn file_bytes(part: Field<'_>, is_base64: bool) -> Result<Bytes, Rejection> {
    if !is_base64 {
        return read_part(part, PICTURE_MAX_BYTES).await;
    }
    let encoded = read_part(part, BASE64_MAX_BYTES).await?;
    if encoded.len() > BASE64_MAX_BYTES {
        // Returned as it is: the check of the picture's size refuses it, with the field's name.
        return Ok(encoded);
    }
    decode_base64(&encoded)
        .ok_or_else(|| Rejection::unreadable("Multipart form", "Could not decode base64 data."))
}

/// Decodes base64, skipping all other characters, as Django does.
fn decode_base64(encoded: &[u8]) -> Option<Bytes> {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let letters: Vec<u8> = encoded.iter().copied().filter(is_letter).collect();
    STANDARD.decode(letters).ok().map(Bytes::from)
}

/// Reads a part. Of one that is longer than `max` it keeps `max + 1` bytes, so that the caller sees that it is too
/// long; the rest is read and dropped, because clients send the whole body before they read the answer.
async fn read_part(mut part: Field<'_>, max: usize) -> Result<Bytes, Rejection> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = part.chunk().await.map_err(|error| multipart_error(&error))? {
        let room = max + 1 - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(bytes.freeze())
}

fn multipart_error(error: &multer::Error) -> Rejection {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<LengthLimitError>() {
            return Rejection::too_large();
        }
        cause = inner.source();
    }
    Rejection::unreadable("Multipart form", &error.to_string())
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::header};

    use super::*;

    async fn read_as(content_type: &str, body: &[u8]) -> Result<FormFields, Rejection> {
        let request = Request::post("/").header(header::CONTENT_TYPE, content_type);
        parse_body(request.body(Body::from(body.to_vec())).expect("a request"), content_type).await
    }

    /// The field `img` of a body with one part that has these headers.
    async fn picture(headers: &str, bytes: &[u8]) -> Option<FieldValue> {
        let body = [b"--b\r\n", headers.as_bytes(), b"\r\n\r\n", bytes, b"\r\n--b--\r\n"].concat();
        let mut fields = read_as("multipart/form-data; boundary=b", &body).await.expect("a form");
        fields.take("img")
    }

    #[tokio::test]
    async fn part_with_a_file_name_in_any_form_is_a_file() {
        let file = Some(FieldValue::File(Bytes::from_static(b"\x89PNG")));
        for headers in [
            r#"Content-Disposition: form-data; name="img"; filename="x.png""#,
            r#"content-disposition: form-data; filename="x.png"; name="img""#,
            r#"CONTENT-DISPOSITION:form-data;NAME=img;FILENAME=x.png"#,
            r#"Content-Disposition: form-data; name="img"; filename*=utf-8''x.png"#,
            r#"Content-Disposition: form-data; filename*=utf-8''x.png; name="img"; filename="""#,
            r#"Content-Disposition: attachment; name=" img "; filename="../C:\dir\x.png""#,
            "X-Other: 1\r\nContent-Type: image/png\r\nContent-Disposition: form-data; name=img; filename=\"x\"",
        ] {
            assert_eq!(picture(headers, b"\x89PNG").await, file, "{headers}");
        }
        let latin = b"--b\r\nContent-Disposition: form-data; name=\"img\"; filename=\"\xfc.png\"\r\n\r\n\x89PNG\r\n--b--";
        let mut fields = read_as("multipart/form-data; boundary=b", latin).await.expect("a form");
        assert_eq!(fields.take("img"), file);
    }

    #[tokio::test]
    async fn part_without_a_file_is_text_or_nothing() {
        let text = |text: &str| Some(FieldValue::Text(text.to_owned()));
        let disposition = |more: &str| format!("Content-Disposition: form-data; name=\"img\"{more}");
        assert_eq!(picture(&disposition(""), b"x.png").await, text("x.png"));
        assert_eq!(picture(&disposition("; filename=\"\""), b"").await, text(""), "none was chosen");
        for folder in ["..", "a/", "a\\\\", "./"] {
            assert_eq!(
                picture(&disposition(&format!("; filename=\"{folder}\"")), b"x").await,
                None,
                "{folder}"
            );
        }
        assert_eq!(picture("Content-Type: image/png", b"x").await, None);
    }

    #[tokio::test]
    async fn base64_is_decoded() {
        let of = |more: &str| {
            format!(
                "Content-Disposition: form-data; name=\"img\"{more}\r\nContent-Transfer-Encoding: BASE64 "
            )
        };
        let file = Some(FieldValue::File(Bytes::from_static(b"picture")));
        assert_eq!(picture(&of("; filename=x"), b"cGlj\r\ndHVy ZQ==").await, file);
        assert_eq!(picture(&of(""), b"dGV4dA==").await, Some(FieldValue::Text("text".to_owned())));
        assert_eq!(picture(&of(""), b"no base").await, Some(FieldValue::Text("no base".to_owned())));
        let body = format!("--b\r\n{}\r\n\r\nx\r\n--b--\r\n", of("; filename=x"));
        assert!(read_as("multipart/form-data; boundary=b", body.as_bytes()).await.is_err());
    }

    #[tokio::test]
    async fn boundary_is_read_in_every_client_form() {
        let body = |boundary: &str| {
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=title\r\n\r\na\r\n--{boundary}--\r\n"
            )
        };
        for (header, boundary) in [
            ("multipart/form-data; boundary=\"b c\"", "b c"),
            ("multipart/form-data;boundary=b", "b"),
            ("Multipart/Form-Data; charset=utf-8; Boundary=b", "b"),
            ("multipart/form-data; boundary=----=_Part_0_1.2'()+_,-./:?", "----=_Part_0_1.2'()+_,-./:?"),
        ] {
            let mut fields = read_as(header, body(boundary).as_bytes()).await.expect("a form");
            assert_eq!(fields.take("title"), Some(FieldValue::Text("a".to_owned())), "{header}");
        }
        for header in
            ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"b \""]
        {
            assert!(read_as(header, body("b").as_bytes()).await.is_err(), "{header}");
        }
    }
}
