//! Tests a broker that comes back with an older log: it goes on after what Postgres has, in a new epoch.

use protocol::{
    event::EventName,
    id::{RoomId, Shard, ShardCount},
    subject::Channel,
};
use serde_json::json;
use service::nats::BrokerUser;
use tests::{
    cluster::{Cluster, Size},
    eventually,
    postgres::{Database, Postgres},
};

use super::{
    ONE_SHARD, bring_back, count, expected, keep_copy, metric, place, rows, say, say_all, shard, start,
    state, until_looked_at, until_metric,
};

const REPAIRS: &str = "roomcast_log_repairs_total";

#[tokio::test]
async fn shorter_log_goes_on_after_what_postgres_has() {
    let mut cluster = start().await;
    let copy = tests::folder::Folder::new();
    let older = copy.path().join("store");
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut sent = say_all(&ann, room, 0..20).await;
    keep_copy(&mut cluster, &older);
    sent.extend(say_all(&ann, room, 20..40).await);
    assert_eq!(rows(&cluster, room, 40).await, expected(&sent));
    assert_eq!(state(&cluster, shard()).await.epoch, 1, "a broker that lost nothing goes on as it was");

    bring_back(&mut cluster, &older);
    until_metric(&cluster.persister[0], REPAIRS, shard(), 1.0).await;
    sent.extend(say_all(&ann, room, 40..50).await);
    assert!(sent.is_sorted(), "no id is given twice: {sent:?}");
    assert_eq!(rows(&cluster, room, 50).await, expected(&sent));
    assert_eq!(state(&cluster, shard()).await.epoch, 2);
    assert_eq!(place(&cluster, shard()).await, (sent[49], 2));
    assert_eq!(state(&cluster, Shard::SYSTEM).await.epoch, 1, "that shard has lost nothing");
}

/// Appends `appended` events, while the persister is down, to a log that has lost its last five.
async fn grown_over(appended: usize) {
    let mut cluster = start().await;
    let copy = tests::folder::Folder::new();
    let older = copy.path().join("store");
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut sent = say_all(&ann, room, 0..5).await;
    keep_copy(&mut cluster, &older);
    sent.extend(say_all(&ann, room, 5..10).await);
    rows(&cluster, room, 10).await;
    cluster.persister[0].terminate();
    bring_back(&mut cluster, &older);
    // As api's user, by someone who does not wait for the persister as api does.
    let api = cluster.jetstream(BrokerUser::Api).await;
    let shards = ShardCount::new(1).expect("a count");
    let subject = Channel::Room(RoomId(room)).log_subject(shards, EventName::ChatMessage, None);
    let mut strays = Vec::new();
    for n in 0..appended {
        let message = json!({ "message": n.to_string(), "room": room, "user": "ann",
                              "created_at": "2026-11-21T08:51:26.593514Z" });
        let ack = api.publish(subject.clone(), message.to_string().into()).await.expect("sent");
        strays.push(ack.await.expect("stored").sequence);
    }
    assert_eq!(strays[0], sent[5], "the broker gives ids again that it has forgotten");

    cluster.persister[0].restart();
    cluster.wait_until_ready().await;
    let (kept, noted) = (appended.saturating_sub(5), appended.min(5));
    let last = say(&ann, room, "last").await;
    assert!(last > sent[9] && last > strays[appended - 1]);
    let rows = rows(&cluster, room, 10 + kept + 1).await;
    assert_eq!(rows[..10], expected(&sent), "what Postgres had is as it was");
    let ids: Vec<u64> = rows[10..].iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [&strays[noted..], &[last]].concat());
    let noted = i64::try_from(noted).expect("few");
    assert_eq!(count(&cluster, "rejected_event").await, noted, "nothing is dropped in silence");
    assert_eq!(state(&cluster, shard()).await.epoch, 2);
}

#[tokio::test]
async fn events_appended_to_a_shorter_log_are_reported() {
    grown_over(3).await;
}

#[tokio::test]
async fn log_grown_over_the_watermark_is_recognised_as_another() {
    grown_over(8).await;
}

#[tokio::test]
async fn loss_of_events_seen_by_nodes_begins_a_new_epoch() {
    let mut postgres = Postgres::start();
    let mut cluster = Cluster::start_with(Size::default(), postgres.database(), &[ONE_SHARD]).await;
    let copy = tests::folder::Folder::new();
    let older = copy.path().join("store");
    let room = cluster.rest(0, "ann").create_room("general").await;
    say(&cluster.rest(0, "ann"), room, "0").await;
    rows(&cluster, room, 1).await;
    let mut socket = cluster.socket(0, "ann").await;
    socket.join_room(room).await;
    let joined = state(&cluster, shard()).await.last;
    keep_copy(&mut cluster, &older);
    until_looked_at(&cluster).await;
    postgres.kill9();
    for n in 1..6 {
        // As soon as the node has its broker back.
        loop {
            let answer = socket.act("create_message", json!({ "msg_text": n.to_string() })).await;
            let status = answer.status;
            assert!(status == 201 || status == 503, "{status}");
            if status == 201 {
                break;
            }
        }
    }
    assert_eq!(state(&cluster, shard()).await.last, joined + 5);
    until_metric(&cluster.persister[0], "roomcast_persister_lag_messages", shard(), 5.0).await;
    bring_back(&mut cluster, &older);
    postgres.restart();
    until_metric(&cluster.persister[0], REPAIRS, shard(), 1.0).await;
    assert_eq!(state(&cluster, shard()).await.epoch, 2, "their ids are given again");
    assert_eq!(place(&cluster, shard()).await.1, 2);
}

#[tokio::test]
async fn reboot_of_a_single_brokers_host_begins_a_new_epoch() {
    let boot = |id| [ONE_SHARD, ("ROOMCAST_LOG_BOOT_ID", id)];
    let mut cluster = Cluster::start_with(Size::default(), Database::shared(), &boot("first")).await;
    let room = cluster.rest(0, "ann").create_room("general").await;
    let id = say(&cluster.rest(0, "ann"), room, "0").await;
    rows(&cluster, room, 1).await;
    for (id, epoch) in [("first", 1), ("second", 2), ("second", 2), ("third", 3)] {
        cluster.persister[0].terminate();
        cluster.persister[0].set("ROOMCAST_LOG_BOOT_ID", id);
        cluster.persister[0].restart();
        cluster.wait_until_ready().await;
        for shard in [Shard::SYSTEM, shard()] {
            let at = eventually("the epoch is there", || async {
                let (stream, row) = (state(&cluster, shard).await.epoch, place(&cluster, shard).await.1);
                (stream == row).then_some(stream)
            });
            assert_eq!(at.await, epoch, "boot {id}, shard {shard}");
        }
    }
    assert_eq!(say(&cluster.rest(0, "ann"), room, "1").await, id + 1, "the log itself goes on");
    assert_eq!(metric(&cluster.persister[0], "roomcast_log_holes_total", shard()).await, 0.0);
}
