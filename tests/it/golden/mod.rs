//! Compares every body and every frame of each dialect with files: a changed field is seen here.

use std::path::Path;

use tests::{
    cluster::{Cluster, Size},
    golden,
    postgres::Database,
};

/// Plays `golden/<dialect>.txt` and compares its answers.
async fn is_as_written(dialect: &str) {
    // In one shard, no two events share a number.
    let cluster = Cluster::start_with(Size::default(), Database::shared(), &[("ROOMCAST_SHARDS", "1")]).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("it/golden/{dialect}.txt"));
    golden::compare(&file, &cluster).await;
}

#[tokio::test]
async fn native() {
    is_as_written("native").await;
}

#[tokio::test]
async fn matches() {
    is_as_written("matches").await;
}

#[tokio::test]
async fn direct() {
    is_as_written("direct").await;
}

#[tokio::test]
async fn support() {
    is_as_written("support").await;
}

#[tokio::test]
async fn topics() {
    is_as_written("topics").await;
}
