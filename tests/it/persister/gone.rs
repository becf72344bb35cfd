//! Tests a log that is gone: its shards wait for `roomcast recover`, and go on by themselves afterwards.

use protocol::id::Shard;
use tests::paths;
use tests::{cluster::Size, eventually, postgres::Database};

use super::{
    Cluster, ONE_SHARD, expected, metric, place, printed, recover, rows, say_all, shard, start, state,
    until_refused,
};

const REFUSED: &str = "roomcast_shard_refused";

fn lose_the_log(cluster: &mut Cluster) {
    cluster.nats.kill9();
    std::fs::remove_dir_all(cluster.nats.store()).expect("the log's folder");
    cluster.nats.restart();
}

#[tokio::test]
async fn new_log_goes_on_after_what_postgres_has() {
    let mut cluster = start().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut sent = say_all(&ann, room, 0..10).await;
    rows(&cluster, room, 10).await;
    let output = recover(&cluster, &["--accept-loss"]);
    assert!(output.status.success() && printed(&output).contains("nothing to do"), "{output:?}");
    assert_eq!(place(&cluster, shard()).await, (sent[9], 1), "where all is well it changes nothing");

    lose_the_log(&mut cluster);
    let said = until_refused(&cluster.persister[0]).await;
    assert!(said.contains("the log is gone"), "{said}");
    for shard in [Shard::SYSTEM, shard()] {
        super::until_metric(&cluster.persister[0], REFUSED, shard, 1.0).await;
    }
    let (status, problem) = ann.post(&paths::messages(room), serde_json::json!({ "message": "lost" })).await;
    assert_eq!(status.as_u16(), 503, "{problem}");

    let output = recover(&cluster, &[]);
    assert!(output.status.success(), "{}", printed(&output));
    assert!(printed(&output).contains("a new log"), "{}", printed(&output));
    cluster.wait_until_ready().await;
    sent.extend(say_all(&ann, room, 10..20).await);
    assert_eq!(sent[10], sent[9] + 1);
    assert_eq!(rows(&cluster, room, 20).await, expected(&sent));
    for shard in [Shard::SYSTEM, shard()] {
        assert_eq!(state(&cluster, shard).await.epoch, 2);
        assert_eq!(metric(&cluster.persister[0], REFUSED, shard).await, 0.0);
    }
    assert_eq!(ann.create_room("another").await, room + 1);
    let output = recover(&cluster, &["--accept-loss"]);
    assert!(output.status.success(), "{}", printed(&output));
    assert_eq!(state(&cluster, shard()).await.epoch, 2, "once is enough");
}

#[tokio::test]
async fn standby_and_leader_both_go_on_after_recover() {
    let size = Size { persister: 2, ..Size::default() };
    let mut cluster = Cluster::start_with(size, Database::shared(), &[ONE_SHARD]).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut sent = say_all(&ann, room, 0..3).await;
    rows(&cluster, room, 3).await;
    lose_the_log(&mut cluster);
    for node in &cluster.persister {
        until_refused(node).await;
    }
    // Each may hold a shard's lock for a moment, to look at it.
    eventually("recovered", || {
        let output = recover(&cluster, &[]);
        std::future::ready(output.status.success().then_some(()))
    })
    .await;
    for node in &mut cluster.persister {
        node.wait_until_ready().await;
    }
    sent.extend(say_all(&ann, room, 3..6).await);
    assert_eq!(rows(&cluster, room, 6).await, expected(&sent));
}
