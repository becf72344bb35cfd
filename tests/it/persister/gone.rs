//! Tests a log that is gone: its shards wait for `roomcast recover`, and then continue by themselves.

use protocol::id::Shard;
use tests::paths;
use tests::{cluster::Size, eventually, postgres::Database};

use super::{
    Cluster, ONE_SHARD, expected, output_text, recover, rows, send_all, shard, shard_metric, start, state,
    wait_until_refused, watermark,
};

const REFUSED: &str = "roomcast_shard_refused";

fn lose_the_log(cluster: &mut Cluster) {
    cluster.nats.kill9();
    std::fs::remove_dir_all(cluster.nats.store()).expect("the folder of the log is removed");
    cluster.nats.restart();
}

#[tokio::test]
async fn new_log_goes_on_after_what_postgres_has() {
    let mut cluster = start().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut sent = send_all(&ann, room, 0..10).await;
    rows(&cluster, room, 10).await;
    let output = recover(&cluster, &["--accept-loss"]);
    assert!(output.status.success() && output_text(&output).contains("nothing to do"), "{output:?}");
    assert_eq!(
        watermark(&cluster, shard()).await,
        (sent[9], 1),
        "recover must change nothing if no log is lost"
    );

    lose_the_log(&mut cluster);
    let readiness = wait_until_refused(&cluster.persister[0]).await;
    assert!(readiness.contains("the log is gone"), "{readiness}");
    for shard in [Shard::SYSTEM, shard()] {
        super::wait_for_metric(&cluster.persister[0], REFUSED, shard, 1.0).await;
    }
    let (status, problem) = ann.post(&paths::messages(room), serde_json::json!({ "message": "lost" })).await;
    assert_eq!(status.as_u16(), 503, "{problem}");

    let output = recover(&cluster, &[]);
    assert!(output.status.success(), "{}", output_text(&output));
    assert!(output_text(&output).contains("a new log"), "{}", output_text(&output));
    cluster.wait_until_ready().await;
    sent.extend(send_all(&ann, room, 10..20).await);
    assert_eq!(sent[10], sent[9] + 1);
    assert_eq!(rows(&cluster, room, 20).await, expected(&sent));
    for shard in [Shard::SYSTEM, shard()] {
        assert_eq!(state(&cluster, shard).await.epoch, 2);
        assert_eq!(shard_metric(&cluster.persister[0], REFUSED, shard).await, 0.0);
    }
    assert_eq!(ann.create_room("another").await, room + 1);
    let output = recover(&cluster, &["--accept-loss"]);
    assert!(output.status.success(), "{}", output_text(&output));
    assert_eq!(state(&cluster, shard()).await.epoch, 2, "a second recover must not begin another epoch");
}

#[tokio::test]
async fn standby_and_leader_both_go_on_after_recover() {
    let size = Size { persister: 2, ..Size::default() };
    let mut cluster = Cluster::start_with(size, Database::shared(), &[ONE_SHARD]).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut sent = send_all(&ann, room, 0..3).await;
    rows(&cluster, room, 3).await;
    lose_the_log(&mut cluster);
    for node in &cluster.persister {
        wait_until_refused(node).await;
    }
    // Each persister may hold the lock of a shard for a moment, to check it.
    eventually("recover succeeds", || {
        let output = recover(&cluster, &[]);
        std::future::ready(output.status.success().then_some(()))
    })
    .await;
    for node in &mut cluster.persister {
        node.wait_until_ready().await;
    }
    sent.extend(send_all(&ann, room, 3..6).await);
    assert_eq!(rows(&cluster, room, 6).await, expected(&sent));
}
