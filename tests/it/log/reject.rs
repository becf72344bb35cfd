//! Events that can't be applied are set aside whole, and the shard goes on.

use shared::{
    event::EventName,
    id::{RoomId, ShardCount},
    nats::Role,
    subject::Channel,
};

use super::{count, rows, say, shard, start, until_metric};

#[tokio::test]
async fn what_cannot_be_applied_is_kept_and_counted() {
    let cluster = start().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.make_room("general").await;
    let first = say(&ann, room, "0").await;
    let shards = ShardCount::new(1).expect("a count");
    let subject = Channel::Room(RoomId(room)).chat(shards, EventName::ChatMessage, None);
    let message = |text: &str, room: u64| {
        format!(
            r#"{{"message":"{text}","room":{room},"user":"ann","created_at":"2026-11-21T08:51:26.593514Z"}}"#
        )
    };
    let broken = [
        (subject.clone(), "{".to_owned()),
        (subject.clone(), message("a\\u0000b", room)),
        (subject.clone(), message("of another room", room + 1)),
        (subject.replace("chat-message", "from-the-future"), "{}".to_owned()),
    ];
    // As api's user: nobody else may append.
    let api = cluster.log(Role::Api).await;
    let mut acks = Vec::new();
    for (subject, payload) in broken.clone() {
        acks.push(api.publish(subject, payload.into()).await.expect("sent"));
    }
    for ack in acks {
        ack.await.expect("stored");
    }
    let last = say(&ann, room, "1").await;
    assert_eq!(rows(&cluster, room, 2).await, [(first, "0".to_owned()), (last, "1".to_owned())]);
    assert_eq!(count(&cluster, "rejected_event").await, 4);
    let kept: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT subject, payload FROM rejected_event ORDER BY seq")
            .fetch_all(&cluster.database.pool().await)
            .await
            .expect("rows");
    let sent: Vec<_> = broken.into_iter().map(|(subject, payload)| (subject, payload.into_bytes())).collect();
    assert_eq!(kept, sent, "whole, in order");
    until_metric(&cluster.persister[0], "roomcast_rejected_events_total", shard(), 4.0).await;
}
