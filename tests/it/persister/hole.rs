//! Tests a log that has lost events which Postgres lacks: its shard stops until an operator accepts the loss.

use service::nats::BrokerUser;

use super::{
    count, expected, metric, place, printed, recover, rows, say_all, shard, start, state, until_metric,
    until_refused,
};

#[tokio::test]
async fn shard_with_a_hole_stops_until_the_loss_is_accepted() {
    let mut cluster = start().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let sent = say_all(&ann, room, 0..5).await;
    rows(&cluster, room, 5).await;
    cluster.persister[0].terminate();
    let more = say_all(&ann, room, 5..10).await;
    let lost = more[2];
    log::purge_below(&cluster.jetstream(BrokerUser::Persister).await, shard(), lost + 1)
        .await
        .expect("purged");

    cluster.persister[0].restart();
    let said = until_refused(&cluster.persister[0]).await;
    let range = format!("{} to {lost}", more[0]);
    assert!(said.contains(&range) && said.contains("--accept-loss"), "{said}");
    until_metric(&cluster.persister[0], "roomcast_log_holes_total", shard(), 1.0).await;
    until_metric(&cluster.persister[0], "roomcast_shard_refused", shard(), 1.0).await;

    let output = recover(&cluster, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
    assert!(printed(&output).contains(&range), "{}", printed(&output));
    assert_eq!(place(&cluster, shard()).await, (sent[4], 1), "without the flag it changes nothing");
    assert_eq!(count(&cluster, "lost_range").await, 0);

    let output = recover(&cluster, &["--accept-loss"]);
    assert!(output.status.success(), "{}", printed(&output));
    cluster.wait_until_ready().await;
    let left: Vec<u64> = [&sent[..], &more[3..]].concat();
    let rows = rows(&cluster, room, 7).await;
    assert_eq!(rows.iter().map(|(id, _)| *id).collect::<Vec<_>>(), left);
    assert_eq!(rows[..5], expected(&sent));
    let pool = cluster.database.pool().await;
    let noted: Vec<(i16, i64, i64)> = sqlx::query_as("SELECT shard, from_seq, to_seq FROM lost_range")
        .fetch_all(&pool)
        .await
        .expect("rows");
    let number = |id: u64| i64::try_from(id).expect("an id");
    assert_eq!(noted, [(0, number(more[0]), number(lost))]);
    assert_eq!(state(&cluster, shard()).await.epoch, 2);
    assert_eq!(metric(&cluster.persister[0], "roomcast_shard_refused", shard()).await, 0.0);
}
