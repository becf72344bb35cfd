//! Tests malformed requests: each is refused with its reason, in this dialect's form, and changes nothing.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{
    client::Rest,
    cluster::{Cluster, Size},
    postgres::Database,
};

use super::{
    CONTROL, LIST, SERVICE, agent, key, message, messages, refusal, send, shown, visit, visit_of, visitor,
};

async fn visits_are_checked(rest: &Rest) {
    let with = |field: &str, value: Value| {
        let mut body = visit_of("ABCD12345");
        body[field] = value;
        body
    };
    let person = "user_id: must be 1 to 56 of letters, digits and _.@:|+!#$%&'*/=?^`{}~-";
    for (body, message) in [
        (json!([]), "user_id: must be"),
        (json!({}), "missing field `user_id`."),
        (json!({ "user_id": "a" }), "missing field `org_id`."),
        (with("user_id", json!("a b")), "user_id: invalid value: string \"a b\""),
        (with("user_id", json!("")), "user_id: invalid value"),
        (with("user_id", json!("a\0")), "user_id: invalid value"),
        (with("user_id", json!("x".repeat(57))), person),
        (with("user_id", json!(null)), "user_id: invalid type: null"),
        (with("org_id", json!(" ")), "org_id: must not be blank."),
        (with("org_id", json!(5)), "org_id: invalid type: integer `5`, expected a string."),
        (with("portfolio_name", json!("a\0b")), "portfolio_name: must not contain U+0000."),
        (with("product_name", json!("x".repeat(201))), "product_name: must have at most 200 characters."),
    ] {
        let (status, answer) = rest.post(CONTROL, body.clone()).await;
        assert_eq!((status, &answer["success"]), (StatusCode::BAD_REQUEST, &json!(false)), "{body}");
        let found = answer["message"].as_str().expect("text");
        assert!(found.starts_with(message) || body.is_array(), "{body}: {found}");
    }
}

async fn messages_are_checked(rest: &Rest, room: &str) {
    let with = |field: &str, value: Value| {
        let mut body = message(room, "hello");
        body[field] = value;
        body
    };
    let without = |field: &str| {
        let mut body = message(room, "hello");
        body.as_object_mut().expect("an object").remove(field);
        body
    };
    let kind = "type: must be create_message or delete_room.";
    for (body, message) in [
        (with("message_data", json!("")), "message_data: must not be blank."),
        (with("message_data", json!("a\0b")), "message_data: must not contain U+0000."),
        (
            with("message_data", json!("ü".repeat(16_385))),
            "message_data: must have at most 16384 characters.",
        ),
        (with("message_data", json!(5)), "message_data: invalid type: integer `5`, expected a string."),
        (with("auther", json!("a\0b")), "auther: must not contain U+0000."),
        (with("auther", json!("x".repeat(201))), "auther: must have at most 200 characters."),
        (with("message_type", json!("a\0b")), "message_type: must not contain U+0000."),
        (with("message_type", json!("x".repeat(201))), "message_type: must have at most 200 characters."),
        (with("side", json!("yes")), "side: invalid type: string \"yes\", expected a boolean."),
        (with("type", json!("get_messages")), kind),
        (with("type", json!(null)), kind),
        (without("type"), kind),
        (without("room_id"), "missing field `room_id`."),
        (without("side"), "missing field `side`."),
    ] {
        assert_eq!(rest.post(SERVICE, body.clone()).await, refusal(400, message), "{body}");
    }
}

#[tokio::test]
async fn malformed_support_requests_are_refused_with_their_reason() {
    let cluster = Cluster::shared().await;
    let rest = visitor(&cluster, 0);
    let room = visit(&rest, visit_of("ABCD12345")).await;
    visits_are_checked(&rest).await;
    messages_are_checked(&rest, key(&room)).await;
    let read = "type: must be get_messages or get_room_by_id, or in a body delete_room.";
    for (query, message) in [
        ("", read),
        ("?type=nope&room_id=x", read),
        // A GET without a body does not close the room.
        (&format!("?type=delete_room&room_id={}", key(&room)), read),
        ("?type=get_messages", "room_id: must be given."),
        ("?type=a&type=b", "The query is malformed."),
    ] {
        assert_eq!(rest.get(&format!("{SERVICE}{query}")).await, refusal(400, message), "{query}");
    }
    let delete = async |method: Method, body: Value| {
        rest.send(method, SERVICE, &body).await.expect("the node answers")
    };
    let open = json!({ "type": "delete_room", "room_id": key(&room), "is_active": true });
    assert_eq!(delete(Method::GET, open).await, refusal(400, "is_active: must be false."));
    let nameless = json!({ "type": "delete_room" });
    assert_eq!(delete(Method::POST, nameless).await, refusal(400, "room_id: must be given."));
    let other = json!({ "type": "get_messages", "room_id": key(&room) });
    assert_eq!(delete(Method::DELETE, other).await, refusal(400, "type: must be delete_room."));
    let agent = agent(&cluster, "DOWELL12345");
    for (query, message) in [
        ("", "org_id: must not be blank."),
        ("?org_id=DOWELL12345", "product_name: must not be blank."),
        ("?org_id=a%00b&product_name=x", "org_id: must not contain U+0000."),
    ] {
        assert_eq!(agent.get(&format!("{LIST}{query}")).await, refusal(400, message), "{query}");
    }
    assert_eq!(shown(&rest, key(&room)).await, room, "no refused request has an effect");
    assert_eq!(messages(&rest, key(&room)).await, [] as [Value; 0]);
}

#[tokio::test]
async fn support_answers_are_not_cacheable() {
    let cluster = Cluster::shared().await;
    let rest = visitor(&cluster, 0);
    let visit = json!({ "user_id": "a", "org_id": "o", "portfolio_name": "p", "product_name": "w" });
    for (request, status) in [
        (rest.request(Method::POST, CONTROL).json(&visit), 200),
        (rest.request(Method::POST, CONTROL).body("{"), 415),
        (rest.request(Method::PUT, CONTROL), 405),
        (rest.request(Method::GET, "/api/v2/nowhere"), 404),
        (rest.request(Method::GET, LIST), 400),
    ] {
        let answer = request.send().await.expect("the node answers");
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers()["cache-control"], "no-store", "{status}");
    }
}

#[tokio::test]
async fn support_bodies_addresses_and_methods_have_bounds() {
    let cluster = Cluster::shared().await;
    let rest = visitor(&cluster, 0);
    let json_type = ("content-type", "application/json");
    let post = || rest.request(Method::POST, CONTROL);
    let cases = [
        (
            post().header(json_type.0, json_type.1).body("x".repeat((256 << 10) + 1)),
            413,
            "The body must have at most 256 KiB.",
        ),
        (post().header(json_type.0, json_type.1).body("{"), 400, "The body is not JSON."),
        (post(), 400, "The body is not JSON."),
        (post().header("content-type", "text/plain").body("{}"), 415, "The body must be application/json."),
        (post().header("origin", "https://evil.example"), 403, "This origin is not allowed."),
        (
            rest.request(Method::POST, SERVICE).header("idempotency-key", "x".repeat(129)),
            400,
            "Idempotency-Key: must be 1 to 128 visible ASCII characters.",
        ),
        (rest.request(Method::GET, CONTROL), 405, "This address does not take that method."),
        (rest.request(Method::PUT, SERVICE), 405, "This address does not take that method."),
        (rest.request(Method::POST, LIST), 405, "This address does not take that method."),
        (rest.request(Method::GET, "/api/v2/nowhere"), 404, "Not found."),
        (rest.request(Method::GET, "/api/v2/room-list/x"), 404, "Not found."),
    ];
    for (request, status, message) in cases {
        let answer = request.send().await.expect("the node answers");
        assert_eq!(answer.status(), status, "{message}");
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(answer.headers().contains_key("allow"), status == 405);
        assert_eq!(answer.json::<Value>().await.expect("JSON"), refusal(status, message).1);
    }
    // The longest legal text in each escaping.
    let room = visit(&rest, visit_of("ABCD12345")).await;
    let body = message(key(&room), "?").to_string().replace('?', &r"\ud834\udd1e".repeat(16_384));
    let request = rest.request(Method::POST, SERVICE).header(json_type.0, json_type.1).body(body);
    assert_eq!(request.send().await.expect("the node answers").status(), StatusCode::OK);
    let found = messages(&rest, key(&room)).await;
    assert!(found[0]["message_data"] == "𝄞".repeat(16_384), "it is the same text");
    send(&rest, key(&room), "and a short one").await;
}

#[tokio::test]
async fn rate_limit_answer_has_the_form_of_the_support_dialect() {
    let limit = [("ROOMCAST_RATE_REQUESTS", "1:2"), ("ROOMCAST_ADDRESS_HEADER", "x-forwarded-for")];
    let cluster = Cluster::start_with(Size::default(), Database::shared(), &limit).await;
    let rest = visitor(&cluster, 0);
    let refused = loop {
        let answer = rest.get("/api/v2/nowhere").await;
        if answer.0 != StatusCode::NOT_FOUND {
            break answer;
        }
    };
    assert_eq!(refused, refusal(429, "That is too often. Try again in 1 s."));
}
