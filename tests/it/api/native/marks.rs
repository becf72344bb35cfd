//! Tests read marks: stored, never moved back, and pushed to the right sockets.

use reqwest::StatusCode;
use serde_json::json;
use tests::paths;
use tests::{
    cluster::{Cluster, Size},
    eventually,
};

use super::{NOT_FOUND, refusal};

#[tokio::test]
async fn read_mark_sets_unread_and_never_moves_back() {
    let cluster = Cluster::shared().await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(1, "bob"));
    let room = ann.create_room("general").await;
    let (path, read) = (paths::room(room), paths::read_mark(room));
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(ann.send_message(room, &n.to_string()).await);
    }
    for (mark, unread) in [(ids[1], 1), (ids[0], 1), (ids[2], 0)] {
        let marked = bob.put(&read, json!({ "message_id": mark })).await;
        assert_eq!(marked.0, StatusCode::NO_CONTENT);
        assert_eq!(bob.get(&path).await.1["unread"], unread);
    }
    // The message that was read may have been deleted.
    assert_eq!(ann.delete(&format!("{path}/messages/{}", ids[2])).await.0, StatusCode::NO_CONTENT);
    assert_eq!(bob.put(&read, json!({ "message_id": ids[2] })).await.0, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn read_mark_refusals_have_their_exact_answers() {
    let cluster = Cluster::shared().await;
    let (ann, eve) = (cluster.rest(0, "ann"), cluster.rest(0, "eve"));
    let room = ann.create_private_room(&[]).await;
    let id = ann.send_message(room, "hello").await;
    let elsewhere = ann.create_room("general").await;
    let read = paths::read_mark(room);
    for (body, detail) in [
        (json!({}), "missing field `message_id`."),
        (json!({ "message_id": "1" }), "message_id: invalid type: string \"1\", expected u64."),
        (json!({ "message_id": -1 }), "message_id: invalid value: integer `-1`, expected u64."),
    ] {
        assert_eq!(refusal(&ann.put(&read, body).await), (400, "bad_request", detail));
    }
    for missing in [0, 999_999, u64::MAX] {
        assert_eq!(refusal(&ann.put(&read, json!({ "message_id": missing })).await), NOT_FOUND);
    }
    assert_eq!(refusal(&eve.put(&read, json!({ "message_id": id })).await), NOT_FOUND);
    let other = ann.put(&paths::read_mark(elsewhere), json!({ "message_id": id })).await;
    assert_eq!(refusal(&other), NOT_FOUND, "a message is found only in its own room");
    let mut socket = cluster.socket(0, "eve").await;
    for (body, status, error) in [
        (json!({ "message_id": id }), 400, "room_pk: this socket is in no room."),
        (json!({ "room_pk": room, "message_id": id }), 404, "Not found."),
        (json!({ "room_pk": elsewhere, "message_id": id }), 404, "Not found."),
        (json!({ "room_pk": elsewhere }), 400, "missing field `message_id`."),
    ] {
        let answer = socket.act("mark_read", body).await;
        assert_eq!(answer.refusal(), (status, error));
    }
}

#[tokio::test]
async fn frequent_read_marks_of_a_socket_store_the_last() {
    let mut cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let room = ann.create_room("general").await;
    let (mut here, mut there) = (cluster.socket(0, "bob").await, cluster.socket(0, "bob").await);
    let mut other = cluster.socket(0, "ann").await;
    for socket in [&mut here, &mut there, &mut other] {
        socket.join_room(room).await;
    }
    let mut last = 0;
    for n in 0..20 {
        last = ann.send_message(room, &n.to_string()).await;
        let data = here.act_ok("mark_read", json!({ "message_id": last })).await;
        assert_eq!(data, json!({ "room": room, "message_id": last }));
    }
    let mut pushes = 0;
    loop {
        let push = there.event("message-read").await;
        pushes += 1;
        assert_eq!((push.user(), push.room()), ("bob", room));
        if push.data_u64("message_id") == last {
            break;
        }
    }
    assert!(pushes < 20, "{pushes} pushes for 20 marks: at most one a second");
    let pushes = other.pushes_until_pong().await;
    assert!(
        pushes.iter().all(|push| push.event != "message-read"),
        "read marks are not pushed to a crowd: {pushes:?}"
    );
    eventually("the profile change is stored", || async {
        (bob.get(&paths::room(room)).await.1["unread"] == 0).then_some(())
    })
    .await;

    // A node that stops stores its pending read marks.
    for n in 0..2 {
        last = ann.send_message(room, &n.to_string()).await;
        here.act_ok("mark_read", json!({ "message_id": last })).await;
    }
    assert!(cluster.api[0].terminate().success());
    cluster.api[0].restart();
    cluster.api[0].wait_until_ready().await;
    eventually("the last event is stored", || async {
        (bob.get(&paths::room(room)).await.1["unread"] == 0).then_some(())
    })
    .await;
}
