//! Tests that each limit and each malformed request has its exact answer, and changes nothing.

use reqwest::Method;
use serde_json::{Value, json};
use tests::cluster::{Cluster, Size};
use tests::paths;

#[tokio::test]
async fn malformed_requests_are_refused_with_their_reason() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let messages = paths::messages(room);
    let long = "ü".repeat(16_385);
    let table = [
        (&messages, json!({}), "missing field `message`."),
        (&messages, json!({ "message": 5 }), "message: invalid type: integer `5`, expected a string."),
        (&messages, json!({ "message": " \n" }), "message: must not be blank."),
        (&messages, json!({ "message": "a\0b" }), "message: must not contain U+0000."),
        (&messages, json!({ "message": long }), "message: must have at most 16384 characters."),
        (
            &messages,
            json!({ "message": "a", "client_id": "" }),
            "client_id: must be 1 to 128 visible ASCII characters.",
        ),
        (&paths::ROOMS.to_owned(), json!({ "name": " " }), "name: must not be blank."),
        (
            &paths::ROOMS.to_owned(),
            json!({ "name": "x".repeat(201) }),
            "name: must have at most 200 characters.",
        ),
    ];
    for (path, body, detail) in table {
        let (status, problem) = ann.post(path, body).await;
        let expected = json!({
            "type": "about:blank", "title": "Bad Request", "status": 400, "code": "bad_request", "detail": detail,
        });
        assert_eq!((status.as_u16(), problem), (400, expected));
    }
    for (query, detail) in [
        ("limit=0", "limit: must be 1 to 200."),
        ("limit=201", "limit: must be 1 to 200."),
        ("before=x", "before: must be a message's id."),
        ("before=1&after=1", "before, after: only one of them can be given."),
        ("before=1&changed_after=1", "before, after, changed_after: only one of them can be given."),
        ("changed_after=x", "changed_after: must be an event's id, or one that was given as `next`."),
        ("changed_after=1-x", "changed_after: must be an event's id, or one that was given as `next`."),
    ] {
        let (status, problem) = ann.get(&format!("{messages}?{query}")).await;
        assert_eq!((status.as_u16(), &problem["detail"]), (400, &json!(detail)));
    }
    assert_eq!(ann.messages(room).await, [], "no refused message is stored");
    assert_eq!(ann.rooms().await.len(), 1, "no refused room is created");
}

#[tokio::test]
async fn bodies_addresses_and_methods_have_bounds() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let post = || ann.request(Method::POST, paths::ROOMS);
    let json_type = ("content-type", "application/json");
    let cases = [
        (post().header(json_type.0, json_type.1).body("x".repeat((256 << 10) + 1)), 413, "too_large"),
        (post().header(json_type.0, json_type.1).body("{"), 400, "bad_request"),
        (post().header("content-type", "text/plain").body("{}"), 415, "unsupported_media_type"),
        (ann.request(Method::GET, "/nowhere"), 404, "not_found"),
        (ann.request(Method::GET, &paths::room("x")), 404, "not_found"),
        (ann.request(Method::DELETE, paths::ROOMS), 405, "method_not_allowed"),
    ];
    for (request, status, code) in cases {
        let answer = request.send().await.expect("the node answers");
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert!(answer.headers().contains_key("x-request-id"));
        let problem: Value = answer.json().await.expect("JSON");
        assert_eq!(problem["code"], code);
    }
}

#[tokio::test]
async fn socket_survives_malformed_frames() {
    let cluster = Cluster::shared().await;
    let mut socket = cluster.socket(0, "ann").await;
    for (text, status, error, id) in [
        ("not JSON", 400, "The frame is not JSON.", Value::Null),
        ("[]", 400, "The frame must be a JSON object without repeated keys.", Value::Null),
        (r#"{"request_id":"a"}"#, 405, "Unable to find action in message body.", json!("a")),
        (r#"{"action":"nope","request_id":1.5}"#, 405, r#"Method "nope" not allowed."#, json!(1.5)),
        (r#"{"action":"nope","request_id":[1]}"#, 405, r#"Method "nope" not allowed."#, Value::Null),
        (r#"{"action":"join_room","request_id":true}"#, 400, "missing field `room_pk`.", json!(true)),
        (
            r#"{"action":"create_message","msg_text":"a"}"#,
            400,
            "room_pk: this socket is in no room.",
            Value::Null,
        ),
        (
            r#"{"action":"unsubscribe","channel":"room-1"}"#,
            400,
            "channel: must be one that this socket follows.",
            Value::Null,
        ),
    ] {
        socket.send_text(text).await.expect("the socket is open");
        let answer = socket.next().await.expect("the socket is open");
        assert_eq!(answer["response_status"], status, "{text}: {answer}");
        assert_eq!(answer["errors"], json!([error]), "{text}");
        assert_eq!((&answer["data"], &answer["request_id"]), (&Value::Null, &id), "{text}");
    }
    assert_eq!(socket.act_ok("ping", json!({})).await, json!({}));
    socket.send_text(&"x".repeat((256 << 10) + 1)).await.expect("the socket is open");
    let closed = socket.next().await.expect_err("the socket is closed").to_string();
    assert!(closed.contains("closed 1009"), "{closed}");
}

#[tokio::test]
async fn longest_text_arrives_in_every_encoding() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = cluster.socket(0, "bob").await;
    socket.join_room(room).await;
    // A character of four bytes; its JSON escape has twelve bytes.
    let (text, escaped) = ("𝄞".repeat(16_384), r"\ud834\udd1e".repeat(16_384));
    socket
        .send_text(&format!(r#"{{"action":"create_message","msg_text":"{escaped}","request_id":1}}"#))
        .await
        .expect("the socket is open");
    let push = socket.event("chat-message").await;
    assert!(push.message() == text, "the pushed text is the sent one");
    let request = ann.request(Method::POST, &paths::messages(room));
    let request = request.header("content-type", "application/json");
    let answer =
        request.body(format!(r#"{{"message":"{escaped}"}}"#)).send().await.expect("the node answers");
    assert_eq!(answer.status().as_u16(), 201);
    let messages = ann.messages(room).await;
    assert!(messages.iter().all(|message| message.message == text), "both messages have the text unchanged");
}
