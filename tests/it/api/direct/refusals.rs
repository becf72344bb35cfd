//! Tests each refusal with its status and its exact body; none changes anything.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size, sign},
    postgres::Database,
};

use super::{add, admin, get, person, send};

const FORBIDDEN: &str = "You do not have permission to perform this action.";

fn refused(status: u16, detail: &str) -> (StatusCode, Value) {
    (StatusCode::from_u16(status).expect("a status"), json!({ "detail": detail }))
}

#[tokio::test]
async fn direct_requests_that_are_malformed_or_forbidden_are_refused() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, eve) = (person(&cluster, 0, 7), person(&cluster, 0, 9));
    let room = add(&ann, 7, 8).await;
    let public = cluster.rest(0, "7").create_room("general").await;
    let user = "a user id: 1 to 64 of letters, digits and _.@:|+!#$%&'*/=?^`{}~-";
    let add = "/room/add";
    for (body, status, detail) in [
        (json!({ "owner": 8, "abonent": 7 }), 403, FORBIDDEN.to_owned()),
        (
            json!({ "owner": 7, "abonent": 7 }),
            400,
            "abonent: must be another person than the owner.".to_owned(),
        ),
        (json!({ "owner": 7 }), 400, "missing field `abonent`.".to_owned()),
        (json!({ "abonent": 7 }), 400, "missing field `owner`.".to_owned()),
        (
            json!({ "owner": 7, "abonent": null }),
            400,
            format!("abonent: invalid type: null, expected {user}."),
        ),
        (
            json!({ "owner": 7, "abonent": "a\0b" }),
            400,
            format!("abonent: invalid value: string \"a\\0b\", expected {user}."),
        ),
    ] {
        assert_eq!(ann.post(add, body).await, refused(status, &detail));
    }
    let send = "/room/list";
    for (body, status, detail) in [
        (json!({ "room_id": room, "message": " \n" }), 400, "message: must not be blank."),
        (json!({ "room_id": room, "message": "a\0b" }), 400, "message: must not contain U+0000."),
        (
            json!({ "room_id": room, "message": "x".repeat(16_385) }),
            400,
            "message: must have at most 16384 characters.",
        ),
        (json!({ "room_id": room }), 400, "missing field `message`."),
        (json!({ "message": "hi" }), 400, "missing field `room_id`."),
        (
            json!({ "room_id": room, "message": 5 }),
            400,
            "message: invalid type: integer `5`, expected a string.",
        ),
        (json!({ "room_id": room, "message": "hi", "author": { "id": 8 } }), 403, FORBIDDEN),
        (json!({ "room_id": public, "message": "hi" }), 404, "Not found."),
        (json!({ "room_id": 999_999, "message": "hi" }), 404, "Not found."),
    ] {
        assert_eq!(ann.post(send, body).await, refused(status, detail));
    }
    let strangers = eve.post(send, json!({ "room_id": room, "message": "hi" })).await;
    assert_eq!(strangers, refused(404, "Not found."));
    for verb in ["select", "stop"] {
        for room in
            [room.to_string(), public.to_string(), "999999".to_owned(), "x".to_owned(), "0".to_owned()]
        {
            assert_eq!(eve.get(&format!("/room/{verb}/{room}")).await, refused(404, "Not found."));
        }
    }
    let list = get(&ann, send).await;
    assert_eq!(list["rooms"][room.to_string()]["messages"], json!({}), "no refused request stored anything");
    assert_eq!(list["room_ids"], json!([room]));
}

#[tokio::test]
async fn direct_addresses_methods_and_bodies_without_handler_are_refused() {
    let cluster = Cluster::shared().await;
    let ann = person(&cluster, 0, 7);
    let nobody = Rest::new(&cluster.api[0].address(), "x");
    for (method, path) in [
        (Method::POST, "/room/add"),
        (Method::GET, "/room/list"),
        (Method::POST, "/room/list"),
        (Method::GET, "/room/select/1"),
        (Method::GET, "/room/stop/1"),
        (Method::GET, "/webrtc/cameraOn"),
        (Method::GET, "/webrtc/cameraOff"),
    ] {
        let body = if method == Method::POST { json!({}) } else { Value::Null };
        let (status, refusal) = nobody.send(method, path, &body).await.expect("the node answers");
        assert_eq!((status.as_u16(), super::keys(&refusal)), (401, vec!["detail"]), "{path}");
    }
    let bare = reqwest::get(format!("http://{}/room/list", cluster.api[0].address()))
        .await
        .expect("the node answers");
    assert_eq!(
        (bare.status().as_u16(), &bare.headers()["www-authenticate"]),
        (401, &"Bearer".parse().expect("a value"))
    );
    assert_eq!(bare.headers()["content-type"], "application/json");
    assert_eq!(bare.json::<Value>().await.expect("JSON"), json!({ "detail": "A token is needed." }));

    for path in
        ["/room", "/room/", "/room/nope", "/room/select", "/room/select/", "/webrtc/", "/webrtc/camera"]
    {
        assert_eq!(ann.get(path).await, refused(404, "Not found."), "{path}");
    }
    let wrong = "This address does not take that method.";
    assert_eq!(ann.get("/room/add").await, refused(405, wrong));
    for path in ["/room/select/1", "/room/stop/1/", "/webrtc/cameraOn"] {
        assert_eq!(ann.post(path, json!({})).await, refused(405, wrong));
    }
    let send = async |body: String| {
        let answer =
            ann.request(Method::POST, "/room/list").body(body).send().await.expect("the node answers");
        (answer.status(), answer.json::<Value>().await.expect("JSON"))
    };
    for text in ["", "{", "\u{1}"] {
        assert_eq!(send(text.to_owned()).await, refused(400, "The body is not JSON."), "{text}");
    }
    let large = json!({ "room_id": 1, "message": "x", "author": { "token": "x".repeat(256 << 10) } });
    assert_eq!(send(large.to_string()).await, refused(413, "The body must have at most 256 KiB."));
    let foreign = ann.request(Method::GET, "/room/list").header("origin", "https://elsewhere.example");
    let answer = foreign.send().await.expect("the node answers");
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        answer.json::<Value>().await.expect("JSON"),
        json!({ "detail": "This origin is not allowed." })
    );
    let key = ann.request(Method::POST, "/room/add").header("idempotency-key", "x".repeat(129));
    let answer = key.json(&json!({ "owner": 7, "abonent": 8 })).send().await.expect("the node answers");
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn head_request_changes_nothing() {
    let cluster = Cluster::shared().await;
    let (ann, bob) = (person(&cluster, 0, 7), person(&cluster, 0, 8));
    let (room, other) = (add(&ann, 7, 8).await, add(&ann, 7, 9).await);
    send(&bob, room, "hi").await;
    send(&ann, room, "hi").await;
    get(&ann, "/webrtc/cameraOn").await;
    let before = get(&ann, "/room/list").await;
    assert_eq!(
        (&before["current_room"], &before["rooms"][room.to_string()]["is_active"]),
        (&json!(other), &json!(true))
    );
    let head = async |path: &str| ann.request(Method::HEAD, path).send().await.expect("the node answers");
    for path in [format!("/room/select/{room}"), format!("/room/stop/{room}"), "/webrtc/cameraOff".to_owned()]
    {
        for path in [path.clone(), path + "/"] {
            let refused = head(&path).await;
            assert_eq!(
                (refused.status().as_u16(), &refused.headers()["allow"]),
                (405, &"GET".parse().expect("a value"))
            );
            assert_eq!(refused.headers()["content-type"], "application/json");
        }
    }
    assert_eq!(head("/room/list").await.status(), StatusCode::OK);
    assert_eq!(get(&ann, "/room/list").await, before);
    assert_eq!(get(&bob, "/room/list").await["contact_users"]["7"]["is_camera"], true);
}

#[tokio::test]
async fn closed_direct_room_refuses_messages() {
    let cluster = Cluster::shared().await;
    let ann = person(&cluster, 0, 7);
    let room = add(&ann, 7, 8).await;
    send(&ann, room, "hi").await;
    let path = paths::room(room);
    admin(&cluster).delete(&path).await;
    let closed = refused(409, "This room is closed.");
    assert_eq!(ann.post("/room/list", json!({ "room_id": room, "message": "hi" })).await, closed);
    for verb in ["select", "stop"] {
        assert_eq!(ann.get(&format!("/room/{verb}/{room}")).await, closed);
    }
}

#[tokio::test]
async fn direct_writes_are_rate_limited_by_any_method() {
    let more = [("ROOMCAST_RATE_WRITES", "1:3")];
    let cluster = Cluster::start_with(Size::default(), Database::shared(), &more).await;
    let ann = Rest::new(&cluster.api[0].address(), &sign(&json!({ "user_id": 7 })));
    let refusal = loop {
        let answer = ann.request(Method::GET, "/webrtc/cameraOn").send().await.expect("the node answers");
        if answer.status() != StatusCode::OK {
            break answer;
        }
    };
    assert_eq!(
        (refusal.status().as_u16(), &refusal.headers()["retry-after"]),
        (429, &"1".parse().expect("a value"))
    );
    let detail = json!({ "detail": "That is too often. Try again in 1 s." });
    assert_eq!(refusal.json::<Value>().await.expect("JSON"), detail);
    get(&ann, "/room/list").await;
}
