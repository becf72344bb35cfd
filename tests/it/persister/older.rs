//! Tests a broker that restarts with an older log: the log continues after the events in Postgres, in a new epoch.

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
    ONE_SHARD, copy_log, count, expected, restore_log, rows, send, send_all, shard, shard_metric, start,
    state, wait_for_metric, wait_until_checked, watermark,
};

const REPAIRS: &str = "roomcast_log_repairs_total";

#[tokio::test]
async fn shorter_log_goes_on_after_what_postgres_has() {
    let mut cluster = start().await;
    let copy = tests::folder::Folder::new();
    let log_copy = copy.path().join("store");
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut sent = send_all(&ann, room, 0..20).await;
    copy_log(&mut cluster, &log_copy);
    sent.extend(send_all(&ann, room, 20..40).await);
    assert_eq!(rows(&cluster, room, 40).await, expected(&sent));
    assert_eq!(state(&cluster, shard()).await.epoch, 1, "a restart without a loss must keep the epoch");

    restore_log(&mut cluster, &log_copy);
    wait_for_metric(&cluster.persister[0], REPAIRS, shard(), 1.0).await;
    sent.extend(send_all(&ann, room, 40..50).await);
    assert!(sent.is_sorted(), "no id may be given twice: {sent:?}");
    assert_eq!(rows(&cluster, room, 50).await, expected(&sent));
    assert_eq!(state(&cluster, shard()).await.epoch, 2);
    assert_eq!(watermark(&cluster, shard()).await, (sent[49], 2));
    assert_eq!(state(&cluster, Shard::SYSTEM).await.epoch, 1, "a shard without a loss must keep its epoch");
}

/// Appends `appended` events, while the persister is down, to a log that has lost its last five.
async fn append_to_shorter_log(appended: usize) {
    let mut cluster = start().await;
    let copy = tests::folder::Folder::new();
    let log_copy = copy.path().join("store");
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut sent = send_all(&ann, room, 0..5).await;
    copy_log(&mut cluster, &log_copy);
    sent.extend(send_all(&ann, room, 5..10).await);
    rows(&cluster, room, 10).await;
    cluster.persister[0].terminate();
    restore_log(&mut cluster, &log_copy);
    // Appends as api's user, but without waiting for the persister's check of the log, as api would.
    let api = cluster.jetstream(BrokerUser::Api).await;
    let shards = ShardCount::new(1).expect("a valid number of shards");
    let subject = Channel::Room(RoomId(room)).log_subject(shards, EventName::ChatMessage, None);
    let mut appended_ids = Vec::new();
    for n in 0..appended {
        let message = json!({ "message": n.to_string(), "room": room, "user": "ann",
                              "created_at": "2026-11-21T08:51:26.593514Z" });
        let ack =
            api.publish(subject.clone(), message.to_string().into()).await.expect("the message is published");
        appended_ids.push(ack.await.expect("the event is stored").sequence);
    }
    assert_eq!(appended_ids[0], sent[5], "the broker must give the lost ids again");

    cluster.persister[0].restart();
    cluster.wait_until_ready().await;
    let (applied, rejected) = (appended.saturating_sub(5), appended.min(5));
    let last = send(&ann, room, "last").await;
    assert!(last > sent[9] && last > appended_ids[appended - 1]);
    let rows = rows(&cluster, room, 10 + applied + 1).await;
    assert_eq!(rows[..10], expected(&sent), "the rows from before must not change");
    let ids: Vec<u64> = rows[10..].iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [&appended_ids[rejected..], &[last]].concat());
    let rejected = i64::try_from(rejected).expect("a small number");
    assert_eq!(
        count(&cluster, "rejected_event").await,
        rejected,
        "each event that was not applied must be recorded"
    );
    assert_eq!(state(&cluster, shard()).await.epoch, 2);
}

#[tokio::test]
async fn events_appended_to_a_shorter_log_are_reported() {
    append_to_shorter_log(3).await;
}

#[tokio::test]
async fn log_grown_over_the_watermark_is_recognised_as_another() {
    append_to_shorter_log(8).await;
}

#[tokio::test]
async fn loss_of_events_seen_by_nodes_begins_a_new_epoch() {
    let mut postgres = Postgres::start();
    let mut cluster = Cluster::start_with(Size::default(), postgres.database(), &[ONE_SHARD]).await;
    let copy = tests::folder::Folder::new();
    let log_copy = copy.path().join("store");
    let room = cluster.rest(0, "ann").create_room("general").await;
    send(&cluster.rest(0, "ann"), room, "0").await;
    rows(&cluster, room, 1).await;
    let mut socket = cluster.socket(0, "ann").await;
    socket.join_room(room).await;
    let joined = state(&cluster, shard()).await.last;
    copy_log(&mut cluster, &log_copy);
    wait_until_checked(&cluster).await;
    postgres.kill9();
    for n in 1..6 {
        // Repeats until the node is connected to the broker again.
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
    wait_for_metric(&cluster.persister[0], "roomcast_persister_lag_messages", shard(), 5.0).await;
    restore_log(&mut cluster, &log_copy);
    postgres.restart();
    wait_for_metric(&cluster.persister[0], REPAIRS, shard(), 1.0).await;
    assert_eq!(
        state(&cluster, shard()).await.epoch,
        2,
        "the lost ids will be given again, so a new epoch must begin"
    );
    assert_eq!(watermark(&cluster, shard()).await.1, 2);
}

#[tokio::test]
async fn reboot_of_a_single_brokers_host_begins_a_new_epoch() {
    let boot = |id| [ONE_SHARD, ("ROOMCAST_LOG_BOOT_ID", id)];
    let mut cluster = Cluster::start_with(Size::default(), Database::shared(), &boot("first")).await;
    let room = cluster.rest(0, "ann").create_room("general").await;
    let id = send(&cluster.rest(0, "ann"), room, "0").await;
    rows(&cluster, room, 1).await;
    for (id, epoch) in [("first", 1), ("second", 2), ("second", 2), ("third", 3)] {
        cluster.persister[0].terminate();
        cluster.persister[0].set("ROOMCAST_LOG_BOOT_ID", id);
        cluster.persister[0].restart();
        cluster.wait_until_ready().await;
        for shard in [Shard::SYSTEM, shard()] {
            let epoch_reached = eventually("stream and watermark have the same epoch", || async {
                let (stream, row) = (state(&cluster, shard).await.epoch, watermark(&cluster, shard).await.1);
                (stream == row).then_some(stream)
            });
            assert_eq!(epoch_reached.await, epoch, "boot {id}, shard {shard}");
        }
    }
    assert_eq!(
        send(&cluster.rest(0, "ann"), room, "1").await,
        id + 1,
        "the log must continue with the next id"
    );
    assert_eq!(shard_metric(&cluster.persister[0], "roomcast_log_holes_total", shard()).await, 0.0);
}
