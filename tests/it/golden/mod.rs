//! Compares every body and every frame of each dialect with files: a changed field fails a test.

use std::path::Path;

use tests::{
    cluster::{Cluster, Size},
    golden,
    postgres::Database,
};

/// Plays `golden/<dialect>.txt` and compares its answers.
async fn assert_answers_as_recorded(dialect: &str) {
    // One shard, so that no two events have the same id.
    let cluster = Cluster::start_with(Size::default(), Database::shared(), &[("ROOMCAST_SHARDS", "1")]).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("it/golden/{dialect}.txt"));
    golden::compare(&file, &cluster).await;
}

#[tokio::test]
async fn native() {
    assert_answers_as_recorded("native").await;
}

#[tokio::test]
async fn match_rooms() {
    assert_answers_as_recorded("match_rooms").await;
}

#[tokio::test]
async fn direct() {
    assert_answers_as_recorded("direct").await;
}

#[tokio::test]
async fn support() {
    assert_answers_as_recorded("support").await;
}

#[tokio::test]
async fn topics() {
    assert_answers_as_recorded("topics").await;
}
