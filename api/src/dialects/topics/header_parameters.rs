//! Reads the parameters of headers in multipart bodies as Django does: RFC 2045, the encoded and continued
//! parameters of RFC 2231, and common mistakes of clients.

use std::borrow::Cow;

/// A parameter's value, by its name in any case. An encoded parameter (`filename*=utf-8''…`) or one in sections
/// (`filename*0=…`) wins over a plain one, in any order; of several plain ones the last wins.
pub(super) fn parameter(header: &[u8], name: &str) -> Option<String> {
    // Some clients send Latin-1: its non-ASCII characters become U+FFFD.
    let header = String::from_utf8_lossy(header);
    let (mut plain, mut sections) = (None, Vec::new());
    for piece in split_parameters(&header).skip(1) {
        let (key, value) = piece.split_once('=').unwrap_or((piece, ""));
        let value = unquoted(value.trim());
        let key = key.trim();
        match key.split_once('*') {
            None if key.eq_ignore_ascii_case(name) => plain = Some(value.into_owned()),
            Some((key, section)) if key.eq_ignore_ascii_case(name) => {
                let number = section.strip_suffix('*').unwrap_or(section);
                let is_encoded = section.is_empty() || section.ends_with('*');
                sections.push((number.parse::<u32>().unwrap_or(0), is_encoded, value.into_owned()));
            }
            _ => {}
        }
    }
    if sections.is_empty() {
        return plain;
    }
    sections.sort_by_key(|(number, ..)| *number);
    let is_encoded = sections.iter().any(|(_, is_encoded, _)| *is_encoded);
    let mut bytes = Vec::new();
    for (_, is_encoded, value) in &sections {
        if *is_encoded { decode_percents(value, &mut bytes) } else { bytes.extend(value.as_bytes()) }
    }
    let value = String::from_utf8_lossy(&bytes);
    // An encoded value begins with charset and language: `utf-8'en'value`.
    let mut parts = value.splitn(3, '\'');
    let text = parts.by_ref().nth(2).filter(|_| is_encoded);
    Some(text.unwrap_or(&value).to_owned())
}

/// Splits a header at semicolons outside of quotes.
fn split_parameters(header: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    header.split(move |letter| {
        match letter {
            '"' if !is_escaped => is_quoted = !is_quoted,
            ';' if !is_quoted => return true,
            _ => {}
        }
        is_escaped = letter == '\\' && !is_escaped;
        false
    })
}

fn unquoted(value: &str) -> Cow<'_, str> {
    match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
        Some(inner) if inner.contains('\\') => inner.replace("\\\\", "\\").replace("\\\"", "\"").into(),
        Some(inner) => inner.into(),
        None => value.into(),
    }
}

fn decode_percents(text: &str, bytes: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let digit = |at: usize| more.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.extend(u8::try_from(high * 16 + low));
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn file(header: &str) -> Option<String> {
        parameter(header.as_bytes(), "filename")
    }

    #[test]
    fn name_and_file_name_are_found_in_any_order_and_case() {
        for header in [
            r#"form-data; name="img"; filename="x.png""#,
            r#"form-data; filename="x.png"; name="img""#,
            r#"form-data;filename=x.png;name=img"#,
            r#"Form-Data; Name="img"; FileName="x.png""#,
            r#"form-data ; NAME = "img" ; FILENAME = "x.png" "#,
            r#"form-data; name="img"; filename*=utf-8''x.png"#,
            r#"form-data; filename*=UTF-8'en'x.png; name=img"#,
            r#"form-data; filename*=utf-8''x.png; filename="y.png"; name="img""#,
            r#"form-data; name="img"; filename="y.png"; filename*=utf-8''x%2Epng"#,
            r#"form-data; name*=utf-8''img; filename*0="x."; filename*1=png"#,
            r#"form-data; filename*1*=%70ng; filename*0*=utf-8''x.; name=img"#,
            r#"form-data; name="a;filename=z"; name="img"; filename="x.png""#,
        ] {
            let found = (parameter(header.as_bytes(), "name"), file(header));
            assert_eq!(found, (Some("img".to_owned()), Some("x.png".to_owned())), "{header}");
        }
    }

    #[test]
    fn file_name_parameters_of_clients_are_read() {
        for (header, expected) in [
            (r#"form-data; filename="a \"b\".png""#, "a \"b\".png"),
            (r#"form-data; filename="a;b=c.png""#, "a;b=c.png"),
            (r#"form-data; filename="C:\\dir\\a.png""#, "C:\\dir\\a.png"),
            (r#"form-data; filename="日本.png""#, "日本.png"),
            (r#"form-data; filename*=utf-8''%E6%97%A5%E6%9C%AC.png"#, "日本.png"),
            (r#"form-data; filename="""#, ""),
            (r#"form-data; filename="#, ""),
            (r#"form-data; filename"#, ""),
            (r#"form-data; filename*=x.png"#, "x.png"),
            (r#"form-data; filename*=utf-8''%zz%4"#, "%zz%4"),
        ] {
            assert_eq!(file(header).as_deref(), Some(expected), "{header}");
        }
        assert_eq!(
            parameter(b"form-data; filename=\"b\xfccher.png\"", "filename").as_deref(),
            Some("b\u{fffd}cher.png")
        );
        for none in
            ["form-data", "", "form-data; name=\"filename=x\"", "filename=x", "form-data; xfilename=y"]
        {
            assert_eq!(file(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn quoted_header_value_round_trips(value in "[^\"\\\\\r\n]{0,12}", other in "[a-z;=*' ]{0,12}") {
            let header = format!("form-data; name=\"{other}\"; filename=\"{value}\"");
            prop_assert_eq!(file(&header), Some(value));
        }

        #[test]
        fn any_header_bytes_have_a_parameter_or_none(
            bytes in vec(any::<u8>(), 0..40),
            text in "form-data(; ?(name|filename)[*]?[0-3]?[*]?=[\"a-z%0-9';\\\\]{0,6}){0,4}",
        ) {
            for header in [&bytes, text.as_bytes()] {
                let _ = (parameter(header, "name"), parameter(header, "filename"));
            }
        }
    }
}
