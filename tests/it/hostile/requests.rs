//! Sends generated requests: any route, with generated words in its path, and a generated query and body.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::select};
use reqwest::{Method, StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size, sign},
};

use super::{key, object, run};

/// Every route; `*` is replaced by a generated word or the id of an existing room.
const ROUTES: &str = "GET POST /api/v1/rooms; GET PATCH DELETE /api/v1/rooms/*; GET /api/v1/rooms/*/members;
    PUT DELETE /api/v1/rooms/*/members/*; GET /api/v1/rooms/*/participants;
    GET POST /api/v1/rooms/*/messages; PATCH DELETE /api/v1/rooms/*/messages/*; GET /api/v1/messages/search;
    PUT /api/v1/rooms/*/read; POST /api/v1/rooms/*/invitations; GET /api/v1/invitations;
    POST /api/v1/invitations/*/accept; POST /api/v1/invitations/*/decline; GET POST /api/v1/teams;
    GET /api/v1/teams/*; PUT DELETE /api/v1/teams/*/members/*; GET PUT /api/v1/users/*;
    GET /api/v1/users/*/presence; POST /room/add; GET POST /room/list/; GET /room/select/*; GET /room/stop/*;
    GET /webrtc/cameraOn; POST /api/v2/room-control/; GET POST DELETE /api/v2/room-service/;
    GET /api/v2/room-list/; POST /api/chat/; GET /api/chat/*/; PATCH /api/chat/films/*/; GET /media/chat_img/*";

const TYPES: [&str; 7] = [
    "application/json",
    "application/json",
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
    "",
];

fn routes() -> Vec<(Method, &'static str)> {
    ROUTES
        .split(';')
        .flat_map(|route| {
            let (methods, path) = route.trim().rsplit_once(' ').expect("methods and a path");
            methods.split_whitespace().map(move |method| (method.parse().expect("a valid method"), path))
        })
        .collect()
}

#[derive(Clone, Debug)]
struct Request {
    method: Method,
    path: String,
    kind: &'static str,
    body: Vec<u8>,
}

fn path(route: &'static str) -> impl Strategy<Value = String> {
    let word = prop_oneof![3 => "[1-6]", 1 => "[^/?#]{1,12}", 1 => "[0-9]{1,21}", 1 => "%[0-9a-fA-F]{2}"];
    let pair = (key(), "[^&#]{0,12}|[0-9]{1,20}").prop_map(|(key, value)| format!("{key}={value}"));
    (vec(word, 2), vec(pair, 0..3)).prop_map(move |(words, pairs)| {
        let path = words.iter().fold(route.to_owned(), |path, word| path.replacen('*', word, 1));
        if pairs.is_empty() { path } else { format!("{path}?{}", pairs.join("&")) }
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => object().prop_map(|object| object.to_string().into_bytes()),
        1 => vec(any::<u8>(), 0..200),
        1 => ".{0,60}".prop_map(String::into_bytes),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    select(routes()).prop_flat_map(|(method, route)| {
        (path(route), select(&TYPES[..]), body()).prop_map(move |(path, kind, body)| Request {
            method: method.clone(),
            path,
            kind,
            body,
        })
    })
}

/// Whether a refusal has the form of the path's dialect.
fn has_dialect_form(path: &str, status: StatusCode, body: &Value) -> bool {
    let keys: BTreeSet<&str> = body.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    if path.starts_with("/api/v2") {
        keys == BTreeSet::from(["message", "success"])
            && body["success"] == false
            && body["message"].is_string()
    } else if path.starts_with("/api/v1") {
        keys == BTreeSet::from(["code", "detail", "status", "title", "type"])
            && body["status"] == status.as_u16()
    } else if path.starts_with("/api/chat") {
        let is_text = |value: &Value| value.as_array().is_none_or(|all| all.iter().all(Value::is_string));
        !keys.is_empty() && body.as_object().is_some_and(|body| body.values().all(is_text))
    } else {
        keys == BTreeSet::from(["detail"]) && body["detail"].is_string()
    }
}

async fn send(rest: &Rest, generated: &Request) -> Result<(), TestCaseError> {
    let mut request = rest.request(generated.method.clone(), &generated.path).body(generated.body.clone());
    if !generated.kind.is_empty() {
        request = request.header(CONTENT_TYPE, generated.kind);
    }
    let answer = request.send().await.map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
    let (status, path) = (answer.status(), answer.url().path().to_owned());
    let text = answer.text().await.map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
    // On a busy machine Postgres may lag behind the log for a moment.
    let is_late = status == StatusCode::SERVICE_UNAVAILABLE;
    prop_assert!(status.as_u16() < 500 || is_late, "{status} {text}");
    if status.is_client_error() || is_late {
        let refusal: Value = serde_json::from_str(&text).unwrap_or_default();
        prop_assert!(has_dialect_form(&path, status, &refusal), "{status} {text}");
    }
    Ok(())
}

#[test]
fn generated_requests_are_answered_in_their_dialects_form() {
    let runtime = tokio::runtime::Runtime::new().expect("the runtime starts");
    let cluster = runtime.block_on(Cluster::start(Size::default()));
    let address = cluster.api[0].address();
    let admin = sign(&json!({ "user_id": 1, "is_admin": true, "org_id": "films" }));
    let (admin, anonymous) = (Rest::new(&address, &admin), Rest::without_token(&address));
    for name in ["a", "b", "c"] {
        runtime.block_on(admin.create_room(name));
    }
    run(512, &(request(), prop::bool::weighted(0.8)), |(request, has_token)| {
        runtime.block_on(send(if has_token { &admin } else { &anonymous }, &request))
    });
    assert_eq!(runtime.block_on(admin.get(paths::ROOMS)).0, StatusCode::OK);
    assert!(!cluster.api[0].tail().contains("panicked"), "{}", cluster.api[0].tail());
}
