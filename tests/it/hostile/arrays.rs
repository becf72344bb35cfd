//! Tests that an array of an object's fields is refused as an object, in every dialect.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size, sign},
};

/// Everything that a request could have changed.
async fn seen(rests: [&Rest; 2]) -> Vec<Value> {
    let mut seen = Vec::new();
    for (rest, path) in [
        (rests[0], paths::ROOMS),
        (rests[0], "/api/v1/users/7"),
        (rests[0], "/api/v1/teams"),
        (rests[0], "/api/v1/invitations"),
        (rests[0], "/room/list"),
        (rests[1], "/api/v1/invitations"),
        (rests[0], "/api/chat/films/"),
        (rests[1], "/api/v2/room-list/?org_id=acme&product_name=phones"),
    ] {
        let (status, answer) = rest.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        seen.push(answer);
    }
    seen
}

#[tokio::test]
async fn array_is_refused_wherever_an_object_is_read() {
    let cluster = Cluster::start(Size::default()).await;
    let admin = json!({ "user_id": 7, "is_admin": true, "username": "Ann", "iat": 5 });
    let ann = Rest::new(&cluster.api[0].address(), &sign(&admin));
    let bob = Rest::new(&cluster.api[0].address(), &sign(&json!({ "user_id": 8, "org_id": "acme" })));
    let room = ann.create_room("general").await;
    let said = ann.send_message(room, "hi").await;
    let (_, direct) = ann.post("/room/add", json!({ "owner": 7, "abonent": 8 })).await;
    let visit = json!({ "user_id": 5, "org_id": "acme", "portfolio_name": "p", "product_name": "phones" });
    let (_, visit) = bob.post("/api/v2/room-control/", visit).await;
    let (key, direct) = (visit["inserted_id"].clone(), direct["id"].clone());
    let (_, chat) = ann.post("/api/chat/", json!({ "title": "Dune", "room": "films" })).await;
    let chat = format!("/api/chat/films/{}/", chat["chat"]["id"]);
    let before = seen([&ann, &bob]).await;

    let of_room = |rest: &str| format!("/api/v1/rooms/{room}{rest}");
    let (post, patch, put) = (Method::POST, Method::PATCH, Method::PUT);
    let requests = [
        (post.clone(), of_room("/messages"), json!(["Hello."])),
        (post.clone(), of_room("/messages"), json!([["message", "Hello."]])),
        (patch.clone(), of_room(&format!("/messages/{said}")), json!(["Hello."])),
        (post.clone(), of_room("/invitations"), json!(["8"])),
        (patch.clone(), of_room(""), json!(["renamed", "d", true])),
        (put.clone(), of_room("/read"), json!([said])),
        (post.clone(), paths::ROOMS.to_owned(), json!(["board"])),
        (post.clone(), paths::ROOMS.to_owned(), json!(["board", null, true, null, ["8"], null])),
        (post.clone(), "/api/v1/teams".to_owned(), json!(["team", ["8"]])),
        (put, "/api/v1/users/7".to_owned(), json!(["Eve", null, null, null, null, null, null])),
        (post.clone(), "/room/add".to_owned(), json!([7, 9])),
        (post.clone(), "/room/list".to_owned(), json!([direct, "Hello.", null])),
        (
            post.clone(),
            "/room/list".to_owned(),
            json!({ "room_id": direct, "message": "Hello.", "author": [7] }),
        ),
        (post.clone(), "/api/v2/room-control/".to_owned(), json!([6, "acme", "p", "phones"])),
        (post.clone(), "/api/v2/room-service/".to_owned(), json!(["delete_room", key, false])),
        (Method::GET, "/api/v2/room-service/".to_owned(), json!(["delete_room", key, false])),
        (Method::DELETE, "/api/v2/room-service/".to_owned(), json!(["delete_room", key, false])),
        (
            post.clone(),
            "/api/v2/room-service/?type=create_message".to_owned(),
            json!([key, "Hello.", true, "client", "text"]),
        ),
        (post, "/api/chat/".to_owned(), json!(["Alien", "films"])),
        (patch, chat, json!(["a description"])),
    ];
    for (method, path, body) in requests {
        let (status, answer) = ann.send(method.clone(), &path, &body).await.expect("an answer");
        assert_eq!(status, StatusCode::BAD_REQUEST, "{method} {path} {body}: {answer}");
    }
    // Of somebody else: who is online is seen.
    let mut socket = cluster.socket(0, "9").await;
    for frame in
        [json!(["ping", 1]), json!([["action", "ping"]]), json!(["create_message", 1, room, "Hello."])]
    {
        socket.send_text(&frame.to_string()).await.expect("open");
        let answer = socket.next().await.expect("open");
        assert_eq!((&answer["response_status"], &answer["action"]), (&json!(400), &Value::Null), "{frame}");
    }
    // A field that is an object is none by position either.
    for (action, body) in
        [("signal", json!({ "user": ["8"], "data": 1 })), ("subscribe", json!({ "channel": ["system"] }))]
    {
        let answer = socket.act(action, body).await;
        assert_eq!(answer.status, 400, "{answer}");
    }
    drop(socket);
    assert_eq!(seen([&ann, &bob]).await, before, "nothing of it was done");
}
