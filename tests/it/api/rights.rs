//! Tests rights over HTTP and sockets: a stranger learns nothing.

use reqwest::StatusCode;
use serde_json::json;
use tests::cluster::{Cluster, Size};
use tests::paths;

#[tokio::test]
async fn private_room_does_not_exist_for_a_stranger() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob, eve) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"), cluster.rest(0, "eve"));
    let body = json!({ "name": "board", "private": true, "users": ["bob"] });
    let (status, room) = ann.post(paths::ROOMS, body).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(room["users"], json!(["bob"]));
    let room = tests::native::id(&room);
    let messages = paths::messages(room);
    let id = bob.send_message(room, "hello").await;

    let nothing = eve.get(&paths::room(999_999)).await;
    assert_eq!(nothing.0, StatusCode::NOT_FOUND);
    assert_eq!(eve.get(&paths::room(room)).await, nothing);
    assert_eq!(eve.get(&messages).await, nothing);
    assert_eq!(eve.post(&messages, json!({ "message": "hi" })).await, nothing);
    let path = format!("{messages}/{id}");
    assert_eq!(eve.delete(&path).await, nothing);
    assert_eq!(eve.rooms().await, []);

    let mut socket = cluster.socket(0, "eve").await;
    for (action, body) in [
        ("subscribe", json!({ "channel": format!("room-{room}") })),
        ("subscribe", json!({ "channel": "room-999999" })),
        ("join_room", json!({ "room_pk": room })),
        ("create_message", json!({ "room_pk": room, "msg_text": "hi" })),
    ] {
        let answer = socket.act(action, body).await;
        assert_eq!(answer.refusal(), (404, "Not found."));
    }
    let answer = socket.act("subscribe", json!({ "channel": "user-bob" })).await;
    assert_eq!(answer.status, 403);
    assert_eq!(ann.messages(room).await.len(), 1, "no refused message is stored");
}

#[tokio::test]
async fn message_is_edited_by_its_author_only() {
    let cluster = Cluster::shared().await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let room = ann.create_room("general").await;
    let id = ann.send_message(room, "mine").await;
    let path = paths::message(room, id);
    let edit = json!({ "message": "yours" });
    let (status, problem) = bob.patch(&path, edit.clone()).await;
    assert_eq!((status.as_u16(), &problem["code"]), (403, &json!("forbidden")));
    let (status, _) = bob.delete(&path).await;
    assert_eq!(status.as_u16(), 403);
    let elsewhere = ann.create_room("other").await;
    let path = paths::message(elsewhere, id);
    let (status, _) = ann.patch(&path, edit).await;
    assert_eq!(status.as_u16(), 404, "a message is found only in its own room");
}
