//! Tests a log that has lost events that are not in Postgres: its shard stops until an operator accepts the loss.

use service::nats::BrokerUser;

use super::{
    count, expected, output_text, recover, rows, send_all, shard, shard_metric, start, state,
    wait_for_metric, wait_until_refused, watermark,
};

#[tokio::test]
async fn shard_with_a_hole_stops_until_the_loss_is_accepted() {
    let mut cluster = start().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let sent = send_all(&ann, room, 0..5).await;
    rows(&cluster, room, 5).await;
    cluster.persister[0].terminate();
    let more = send_all(&ann, room, 5..10).await;
    let lost = more[2];
    log::purge_below(&cluster.jetstream(BrokerUser::Persister).await, shard(), lost + 1)
        .await
        .expect("the log is purged");

    cluster.persister[0].restart();
    let readiness = wait_until_refused(&cluster.persister[0]).await;
    let range = format!("{} to {lost}", more[0]);
    assert!(readiness.contains(&range) && readiness.contains("--accept-loss"), "{readiness}");
    wait_for_metric(&cluster.persister[0], "roomcast_log_holes_total", shard(), 1.0).await;
    wait_for_metric(&cluster.persister[0], "roomcast_shard_refused", shard(), 1.0).await;

    let output = recover(&cluster, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", output_text(&output));
    assert!(output_text(&output).contains(&range), "{}", output_text(&output));
    assert_eq!(
        watermark(&cluster, shard()).await,
        (sent[4], 1),
        "recover must change nothing without --accept-loss"
    );
    assert_eq!(count(&cluster, "lost_range").await, 0);

    let output = recover(&cluster, &["--accept-loss"]);
    assert!(output.status.success(), "{}", output_text(&output));
    cluster.wait_until_ready().await;
    let remaining: Vec<u64> = [&sent[..], &more[3..]].concat();
    let rows = rows(&cluster, room, 7).await;
    assert_eq!(rows.iter().map(|(id, _)| *id).collect::<Vec<_>>(), remaining);
    assert_eq!(rows[..5], expected(&sent));
    let pool = cluster.database.pool().await;
    let lost_ranges: Vec<(i16, i64, i64)> = sqlx::query_as("SELECT shard, from_seq, to_seq FROM lost_range")
        .fetch_all(&pool)
        .await
        .expect("the query succeeds");
    let number = |id: u64| i64::try_from(id).expect("a valid id");
    assert_eq!(lost_ranges, [(0, number(more[0]), number(lost))]);
    assert_eq!(state(&cluster, shard()).await.epoch, 2);
    assert_eq!(shard_metric(&cluster.persister[0], "roomcast_shard_refused", shard()).await, 0.0);
}
