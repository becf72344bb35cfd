//! Tests that api appends nothing between the restart of a broker and the persister's check of its log: no id is then
//! given twice in an epoch, and no acknowledged message is lost.

use std::collections::BTreeSet;

use log::LogEnd;
use protocol::subject;
use serde_json::json;
use service::nats::BrokerUser;
use tests::paths;
use tests::{
    cluster::{Cluster, Size},
    eventually,
    folder::Folder,
    postgres::Database,
};
use tokio::task::JoinSet;

use super::{
    ONE_SHARD, copy_log, count, restore_log, rows, send, send_all, shard, start, state, wait_until_checked,
};

#[tokio::test]
async fn messages_sent_while_an_older_log_comes_back_are_kept() {
    let size = Size { api: 2, ..Size::default() };
    let mut cluster = Cluster::start_with(size, Database::shared(), &[ONE_SHARD]).await;
    let copy = Folder::new();
    let log_copy = copy.path().join("store");
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut sent = BTreeSet::new();
    copy_log(&mut cluster, &log_copy);
    for round in 0..3 {
        for n in 0..5 {
            let text = format!("{round}.{n}");
            sent.insert((send(&ann, room, &text).await, text));
        }
        rows(&cluster, room, sent.len()).await;
        cluster.nats.kill9();
        let mut sending = JoinSet::new();
        for n in 0..20 {
            let (rest, text) = (cluster.rest(n % 2, "ann"), format!("{round}.window.{n}"));
            sending.spawn(async move { (send(&rest, room, &text).await, text) });
        }
        restore_log(&mut cluster, &log_copy);
        sent.extend(sending.join_all().await);
        let rows = rows(&cluster, room, sent.len()).await;
        assert_eq!(rows, sent.iter().cloned().collect::<Vec<_>>(), "round {round}");
        assert_eq!(state(&cluster, shard()).await.epoch, round + 2);
    }
    let ids: BTreeSet<u64> = sent.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), sent.len(), "no id may be given twice");
    assert_eq!(count(&cluster, "rejected_event").await, 0);
}

#[tokio::test]
async fn loss_of_an_event_only_api_saw_begins_a_new_epoch() {
    let mut cluster = start().await;
    let copy = Folder::new();
    let log_copy = copy.path().join("store");
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    send_all(&ann, room, 0..3).await;
    rows(&cluster, room, 3).await;
    copy_log(&mut cluster, &log_copy);
    wait_until_checked(&cluster).await;
    cluster.persister[0].kill9();
    let lost = send_all(&ann, room, 3..8).await;
    restore_log(&mut cluster, &log_copy);
    eventually("api waits for the persister's check", || async {
        cluster.api[0].readyz().await.filter(|said| said.contains("has not looked"))
    })
    .await;
    let refused = ann.post(&paths::messages(room), json!({ "message": "early" })).await;
    assert_eq!((refused.0.as_u16(), &refused.1["code"]), (503, &json!("not_stored")), "{refused:?}");

    cluster.persister[0].restart();
    let id = send(&ann, room, "again").await;
    assert_eq!(id, lost[0], "the lost id must be given again");
    assert_eq!(state(&cluster, shard()).await.epoch, 2, "the id must be given again in another epoch");
}

#[tokio::test]
async fn loss_of_an_event_a_node_reports_begins_a_new_epoch() {
    let cluster = start().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let id = send(&ann, room, "0").await;
    let fanout = cluster.jetstream(BrokerUser::Fanout).await.client();
    let report_log_end = async |seq| {
        let payload = serde_json::to_vec(&LogEnd { epoch: 1, seq }).expect("valid JSON");
        fanout.publish(subject::log_end(shard()), payload.into()).await.expect("the message is published");
    };
    report_log_end(id).await;
    assert_eq!(send(&ann, room, "1").await, id + 1);
    assert_eq!(
        state(&cluster, shard()).await.epoch,
        1,
        "a reported event that the log has must not begin a new epoch"
    );
    report_log_end(id + 100).await;
    eventually("a new epoch has begun", || async {
        (state(&cluster, shard()).await.epoch == 2).then_some(())
    })
    .await;
    assert_eq!(send(&ann, room, "2").await, id + 2);
}

#[tokio::test]
async fn restarted_broker_with_its_log_keeps_the_epoch() {
    let mut cluster = start().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut sent = send_all(&ann, room, 0..5).await;
    for n in 1..4 {
        cluster.nats.kill9();
        cluster.nats.restart();
        sent.extend(send_all(&ann, room, n * 5..n * 5 + 5).await);
    }
    assert_eq!(rows(&cluster, room, 20).await, super::expected(&sent));
    assert_eq!(state(&cluster, shard()).await.epoch, 1);
}
