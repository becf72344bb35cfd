//! Tests which requests still work while a process or a server is down, and how the others are refused.

use reqwest::StatusCode;
use serde_json::json;
use tests::native;
use tests::paths;
use tests::{
    cluster::{Cluster, Size},
    eventually,
};

use super::kill::{receive_ids, rows};

#[tokio::test]
async fn sockets_stay_open_and_reads_work_while_the_broker_is_down() {
    let mut cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let path = paths::messages(room);
    let mut socket = cluster.socket(0, "bob").await;
    socket.join_room(room).await;
    let first = ann.send_message(room, "before").await;
    assert_eq!(rows(&cluster, room, 1).await, [first]);
    cluster.nats.kill9();

    eventually("writes are refused as not stored", || async {
        let (status, problem) = ann.post(&path, json!({ "message": "meanwhile" })).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
        (problem["code"] == "not_stored").then_some(())
    })
    .await;
    let page = ann.page(&format!("{path}?before={}", first + 1)).await;
    assert_eq!(page.ids().first(), Some(&first), "history must have the message");
    let answer = socket.act("create_message", json!({ "msg_text": "meanwhile" })).await;
    assert_eq!(answer.status, 503, "{answer}");

    cluster.nats.restart();
    let last = eventually("writes are accepted again", || async {
        let (status, message) = ann.post(&path, json!({ "message": "after", "client_id": "a" })).await;
        status.is_success().then(|| native::id(&message))
    })
    .await;
    assert_eq!(
        receive_ids(&mut socket, 2).await,
        [first, last],
        "the socket that was open all the time must get both messages"
    );
}

#[tokio::test]
async fn only_requests_that_need_new_rows_are_refused_while_the_persister_is_down() {
    let mut cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = cluster.socket(0, "bob").await;
    socket.join_room(room).await;
    cluster.persister[0].kill9();
    let sent = [ann.send_message(room, "one").await, ann.send_message(room, "two").await];
    assert_eq!(receive_ids(&mut socket, 2).await, sent);
    let (status, page) = ann.get(&paths::messages(room)).await;
    assert_eq!(
        (status, &page["results"]),
        (StatusCode::OK, &json!([])),
        "history must be answered without the messages that Postgres lacks"
    );
    eventually("a room can't be created", || async {
        let (status, _) = ann.post(paths::ROOMS, json!({ "name": "another" })).await;
        (status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    cluster.persister[0].restart();
    assert_eq!(rows(&cluster, room, 2).await, sent);
}
