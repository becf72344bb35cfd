//! Tests that an array of values is refused where an object is expected, in every dialect.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size, sign},
};

/// Reads everything that a request could have changed.
async fn read_state(rests: [&Rest; 2]) -> Vec<Value> {
    let mut answers = Vec::new();
    for (rest, path) in [
        (rests[0], paths::ROOMS),
        (rests[0], &*paths::user(7)),
        (rests[0], paths::TEAMS),
        (rests[0], paths::INVITATIONS),
        (rests[0], "/room/list"),
        (rests[1], paths::INVITATIONS),
        (rests[0], "/api/chat/films/"),
        (rests[1], "/api/v2/room-list/?org_id=acme&product_name=phones"),
    ] {
        let (status, answer) = rest.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answers.push(answer);
    }
    answers
}

#[tokio::test]
async fn array_is_refused_wherever_an_object_is_read() {
    let cluster = Cluster::start(Size::default()).await;
    let admin = json!({ "user_id": 7, "is_admin": true, "username": "Ann", "iat": 5 });
    let ann = Rest::new(&cluster.api[0].address(), &sign(&admin));
    let bob = Rest::new(&cluster.api[0].address(), &sign(&json!({ "user_id": 8, "org_id": "acme" })));
    let room = ann.create_room("general").await;
    let message = ann.send_message(room, "hi").await;
    let (_, direct) = ann.post("/room/add", json!({ "owner": 7, "abonent": 8 })).await;
    let support_room =
        json!({ "user_id": 5, "org_id": "acme", "portfolio_name": "p", "product_name": "phones" });
    let (_, support_room) = bob.post("/api/v2/room-control/", support_room).await;
    let (key, direct) = (support_room["inserted_id"].clone(), direct["id"].clone());
    let (_, chat) = ann.post("/api/chat/", json!({ "title": "Dune", "room": "films" })).await;
    let chat = format!("/api/chat/films/{}/", chat["chat"]["id"]);
    let before = read_state([&ann, &bob]).await;

    let (post, patch, put) = (Method::POST, Method::PATCH, Method::PUT);
    let requests = [
        (post.clone(), paths::messages(room), json!(["Hello."])),
        (post.clone(), paths::messages(room), json!([["message", "Hello."]])),
        (patch.clone(), paths::message(room, message), json!(["Hello."])),
        (post.clone(), paths::invitations(room), json!(["8"])),
        (patch.clone(), paths::room(room), json!(["renamed", "d", true])),
        (put.clone(), paths::read_mark(room), json!([message])),
        (post.clone(), paths::ROOMS.to_owned(), json!(["board"])),
        (post.clone(), paths::ROOMS.to_owned(), json!(["board", null, true, null, ["8"], null])),
        (post.clone(), paths::TEAMS.to_owned(), json!(["team", ["8"]])),
        (put, paths::user(7), json!(["Eve", null, null, null, null, null, null])),
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
        let (status, answer) = ann.send(method.clone(), &path, &body).await.expect("the node answers");
        assert_eq!(status, StatusCode::BAD_REQUEST, "{method} {path} {body}: {answer}");
    }
    // Another user's socket, since the answers above show whether a user is online.
    let mut socket = cluster.socket(0, "9").await;
    for frame in
        [json!(["ping", 1]), json!([["action", "ping"]]), json!(["create_message", 1, room, "Hello."])]
    {
        socket.send_text(&frame.to_string()).await.expect("the socket is open");
        let answer = socket.next().await.expect("the socket is open");
        assert_eq!((&answer["response_status"], &answer["action"]), (&json!(400), &Value::Null), "{frame}");
    }
    // A field that must be a string is not accepted as an array of one.
    for (action, body) in
        [("signal", json!({ "user": ["8"], "data": 1 })), ("subscribe", json!({ "channel": ["system"] }))]
    {
        let answer = socket.act(action, body).await;
        assert_eq!(answer.status, 400, "{answer}");
    }
    drop(socket);
    assert_eq!(read_state([&ann, &bob]).await, before, "the refused requests must change nothing");
}
