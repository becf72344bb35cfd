//! Resuming: what was missed comes first, once, and nothing is claimed that is not so.

use serde_json::json;
use tests::cluster::{Cluster, Size};

#[tokio::test]
async fn what_was_missed_comes_first_on_any_node_under_load() {
    let cluster = Cluster::start(Size { api: 1, fanout: 2, persister: 1 }).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.make_room("general").await;
    let mut socket = cluster.socket(0, "bob").await;
    let channel = format!("room-{room}");
    let mut at = socket.must("subscribe", json!({ "channel": channel })).await;
    let writer = tokio::spawn({
        let ann = ann.clone();
        async move {
            let mut ids = Vec::new();
            for n in 0..300 {
                ids.push(ann.say(room, &n.to_string()).await);
            }
            ids
        }
    });
    let mut seen = Vec::new();
    // From one node to the other and back, in the middle of the stream, five times.
    for n in 0..5 {
        for _ in 0..20 {
            let push = socket.event("chat-message").await.expect("a push");
            seen.push(push["id"].as_u64().expect("an id"));
        }
        drop(socket);
        socket = cluster.socket((n + 1) % 2, "bob").await;
        let since = json!({ "channel": channel, "since": seen.last(), "epoch": at["epoch"] });
        at = socket.must("subscribe", since).await;
        assert_eq!(at["recovered"], true);
    }
    let sent = writer.await.expect("the writer ends");
    while seen.len() < sent.len() {
        seen.push(socket.event("chat-message").await.expect("a push")["id"].as_u64().expect("an id"));
    }
    assert_eq!(seen, sent);
}

#[tokio::test]
async fn another_epoch_or_a_future_is_not_recovered() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.make_room("general").await;
    let id = ann.say(room, "hello").await;
    let mut socket = cluster.socket(0, "bob").await;
    let channel = format!("room-{room}");
    let future = json!({ "channel": channel, "since": id + 1_000_000 });
    assert_eq!(socket.must("subscribe", future).await["recovered"], false);
    let mut socket = cluster.socket(0, "bob").await;
    let other = json!({ "channel": channel, "since": id, "epoch": 999 });
    assert_eq!(socket.must("subscribe", other).await["recovered"], false);
}
