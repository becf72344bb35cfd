//! Tests positions: up to which event a socket has all events, and the answer to a resume from there.

use serde_json::json;
use service::nats::BrokerUser;
use tests::cluster::{Cluster, Size};
use tests::paths;

async fn next_position(socket: &mut tests::client::Socket) -> Vec<(u64, u64)> {
    let push = loop {
        let push = socket.push().await;
        if push.event == "position" {
            break push;
        }
    };
    let pairs = push.data.as_array().expect("the answer is a list").iter();
    pairs
        .map(|pair| (pair[0].as_u64().expect("a valid epoch"), pair[1].as_u64().expect("a valid sequence")))
        .collect()
}

#[tokio::test]
async fn quiet_room_resumes_from_a_position() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let (quiet, busy) = (ann.create_room("quiet").await, ann.create_room("busy").await);
    let mut socket = cluster.socket(0, "bob").await;
    let subscription = socket.subscribe_room(quiet).await;
    ann.send_message(busy, "elsewhere").await;
    let all = next_position(&mut socket).await;
    let (epoch, sequence) = all[subscription.shard];
    assert_eq!(epoch, subscription.epoch);
    drop(socket);
    let id = ann.send_message(quiet, "at last").await;
    let mut socket = cluster.socket(1, "bob").await;
    assert!(socket.resume(&format!("room-{quiet}"), sequence, epoch).await.recovered);
    assert_eq!(socket.event("chat-message").await.id(), id);
}

#[tokio::test]
async fn resume_with_a_position_of_another_log_is_not_recovered() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("tea").await;
    let id = ann.send_message(room, "hello").await;
    let mut socket = cluster.socket(0, "bob").await;
    let channel = format!("room-{room}");
    let first = socket.subscribe(&channel).await;
    let epoch = first.epoch;
    for (since, epoch, recovered) in
        [(id, epoch, true), (id, epoch + 1, false), (id + 1_000_000, epoch, false), (id - 1, epoch, true)]
    {
        let mut socket = cluster.socket(0, "bob").await;
        let answer = socket.resume(&channel, since, epoch).await;
        assert_eq!(answer.recovered, recovered, "{since} in {epoch}: {answer:?}");
    }
}

#[tokio::test]
async fn quiet_room_resumes_though_its_last_event_has_left_the_log() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("tea").await;
    let (first, last) = (ann.send_message(room, "one").await, ann.send_message(room, "two").await);
    // Purges the log as the persister does with old events.
    tests::eventually("both messages are in Postgres", || async {
        let (_, page) = ann.get(&paths::messages(room)).await;
        (page["results"].as_array().map(Vec::len) == Some(2)).then_some(())
    })
    .await;
    let (jetstream, shard) = (cluster.jetstream(BrokerUser::Persister).await, cluster.shard_of(room).await);
    log::purge_below(&jetstream, shard, last + 1).await.expect("the log is purged");
    let channel = format!("room-{room}");
    for (since, recovered) in [(last, true), (first, false)] {
        let mut socket = cluster.socket(0, "bob").await;
        let answer = socket.act_ok("subscribe", json!({ "channel": channel, "since": since })).await;
        assert_eq!(answer["recovered"], recovered, "since {since}: {answer}");
    }
}
