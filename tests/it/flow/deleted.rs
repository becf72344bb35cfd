//! Tests that a deleted message can't be read on any node from the acknowledgement on.

use reqwest::StatusCode;
use serde_json::json;
use service::nats::BrokerUser;
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size},
    eventually,
};

#[tokio::test]
async fn deleted_message_is_not_edited_or_deleted_again_on_any_node() {
    let mut cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let nodes = [cluster.rest(0, "ann"), cluster.rest(1, "ann")];
    let room = nodes[0].create_room("general").await;
    let mut socket = cluster.socket(0, "ann").await;
    socket.join_room(room).await;
    let path = |id: u64| paths::message(room, id);
    let edit = async |rest: &Rest, id: u64| {
        let body = json!({ "message": "new" });
        let (status, answer) = rest.patch(&path(id), body).await;
        (status.as_u16(), answer["code"].as_str().unwrap_or("").to_owned())
    };
    let delete = async |rest: &Rest, id: u64| {
        let (status, answer) = rest.delete(&path(id)).await;
        (status.as_u16(), answer["code"].as_str().unwrap_or("").to_owned())
    };
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(nodes[0].send_message(room, &n.to_string()).await);
    }
    let shard = cluster.shard_of(room).await;
    let log = cluster.jetstream(BrokerUser::Api).await;
    let last = async || log::state(&log, shard).await.expect("a leader").last;
    let not_found = (404, "not_found".to_owned());
    // Postgres has the messages, but none of the later events.
    eventually("Postgres has the messages", || async {
        (nodes[0].try_messages(room).await?.len() == 3).then_some(())
    })
    .await;
    cluster.persister[0].pause();
    assert_eq!(delete(&nodes[0], ids[0]).await.0, 204);
    let stored = last().await;
    for node in &nodes {
        assert_eq!(edit(node, ids[0]).await, not_found);
        assert_eq!(delete(node, ids[0]).await, not_found);
    }
    let frame = json!({ "room_pk": room, "msg_id": ids[0], "edited_msg_text": "new" });
    assert_eq!(socket.act("edit_message", frame).await.status, 404);
    assert_eq!(last().await, stored, "nothing was stored");
    assert_eq!(delete(&nodes[1], ids[1]).await.0, 204);
    let stored = last().await;
    for node in &nodes {
        assert_eq!(edit(node, ids[0]).await, not_found, "the message stays deleted after another deletion");
        assert_eq!(edit(node, ids[1]).await, not_found);
    }
    assert_eq!(last().await, stored, "nothing was stored");
    cluster.persister[0].resume();
    for node in &nodes {
        // A page of history waits for the deletions.
        assert_eq!(node.messages(room).await.len(), 1);
        assert_eq!(edit(node, ids[0]).await, not_found);
        assert_eq!(edit(node, ids[1]).await, not_found);
    }
    assert_eq!(last().await, stored, "nothing was stored");
    let (status, edited) = nodes[1].patch(&path(ids[2]), json!({ "message": "new" })).await;
    assert_eq!((status, &edited["message"]), (StatusCode::OK, &json!("new")));
    let pushed = socket.event("message-edit").await;
    assert_eq!(pushed.data["message_id"], ids[2], "only the third message's edit is stored");
}
