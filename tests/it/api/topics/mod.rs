//! Tests the topics dialect: every request of its document as it stands there, every refusal word for word.

mod change;
mod clients;
mod create;
mod docs;
mod list;
mod original;
mod pictures;
mod refused;
mod socket;
mod unique;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, sign},
};

const CHAT: &str = "/api/chat/";
const PICTURE: &[u8] = include_bytes!("../../../../api/src/dialects/topics/default.png");
const FORBIDDEN: &str = r#"{"detail":"You do not have permission to perform this action."}"#;
const TAKEN: &str = r#"{"non_field_errors":["The fields room, title must make a unique set."]}"#;
const NOT_FOUND: &str = r#"{"detail":"Not found."}"#;

/// A part of a multipart body: name, file name, content.
type Part<'a> = (&'a str, Option<&'a str>, &'a [u8]);

/// Status and text of an answer.
async fn answer(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().await.expect("the node answers");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

/// The fields of a topic that a test can't predict: id and timestamp.
fn id_and_time(chat: &Value) -> (u64, &str) {
    (tests::native::id(chat), chat["timestamp"].as_str().expect("a time"))
}

/// Adds a body as browsers and Python's `requests` encode a dictionary.
fn form(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", value.replace(' ', "+"))).collect();
    request.header("content-type", "application/x-www-form-urlencoded").body(pairs.join("&"))
}

/// Adds a multipart body with these parts.
fn multipart(request: RequestBuilder, parts: &[Part<'_>]) -> RequestBuilder {
    let mut body = Vec::new();
    for (name, file, bytes) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        let head = format!("--line\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend([head.as_bytes(), bytes, b"\r\n"].concat());
    }
    body.extend(b"--line--\r\n");
    request.header("content-type", "multipart/form-data; boundary=line").body(body)
}

/// Creates a topic in a category; returns it.
async fn chat(rest: &Rest, room: &str, title: &str) -> Value {
    let (status, made) = rest.post(CHAT, json!({ "title": title, "room": room })).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    made["chat"].clone()
}

/// A client whose token has a username.
fn named(cluster: &Cluster, n: usize, user: &str, username: &str) -> Rest {
    let iat = protocol::clock::Timestamp::now().unix_ms() / 1_000;
    let token = sign(&json!({ "user_id": user, "username": username, "iat": iat }));
    Rest::new(&cluster.api[n].address(), &token)
}

/// A client that is an admin.
fn admin(cluster: &Cluster) -> Rest {
    Rest::new(&cluster.api[0].address(), &sign(&json!({ "user_id": "root", "is_admin": true })))
}

/// Closes a topic by the native dialect.
async fn close(rest: &Rest, id: &Value) {
    let closed = rest.send(Method::DELETE, &paths::room(id), &Value::Null).await;
    assert_eq!(closed.expect("the node answers").0, StatusCode::NO_CONTENT);
}
