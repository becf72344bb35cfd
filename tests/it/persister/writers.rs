//! Tests two persisters at once, ended sessions, and commits without an answer: each event is applied exactly once.

use std::time::Duration;

use tests::{
    cluster::{Cluster, Size},
    postgres::Database,
};

use super::{ONE_SHARD, count, cut::CommitCutter, expected, rows, send_all, start};

const COUNT: usize = 200;

async fn room_of(cluster: &Cluster) -> (tests::client::Rest, u64) {
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    (ann, room)
}

/// Sends messages, and runs `disturb` every 50 ms meanwhile.
async fn send_disturbed<F: Future<Output = ()>>(
    cluster: &Cluster,
    mut disturb: impl FnMut() -> F,
) -> (u64, Vec<u64>) {
    let (ann, room) = room_of(cluster).await;
    let sending = send_all(&ann, room, 0..COUNT);
    tokio::pin!(sending);
    loop {
        tokio::select! {
            sent = &mut sending => return (room, sent),
            // There is no event for a new session, so `disturb` searches again.
            () = tokio::time::sleep(Duration::from_millis(50)) => disturb().await,
        }
    }
}

async fn end_sessions(pool: &sqlx::PgPool, which: &'static str) {
    sqlx::query(which).execute(pool).await.expect("a superuser may end sessions");
}

#[tokio::test]
async fn two_concurrent_persisters_apply_each_event_once() {
    let size = Size { persister: 2, ..Size::default() };
    let cluster = Cluster::start_with(size, Database::shared(), &[ONE_SHARD]).await;
    let pool = cluster.database.pool().await;
    // Ends only the sessions with the locks: a persister that loses its lock writes until it notices that.
    let locks = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let (room, sent) = send_disturbed(&cluster, || end_sessions(&pool, locks)).await;
    assert_eq!(rows(&cluster, room, COUNT).await, expected(&sent));
    assert_eq!(count(&cluster, "rejected_event").await, 0);
}

#[tokio::test]
async fn database_sessions_that_end_at_any_moment_lose_no_event() {
    let cluster = start().await;
    let pool = cluster.database.pool().await;
    let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE application_name = 'roomcast-persister' AND datname = current_database()";
    let (room, sent) = send_disturbed(&cluster, || end_sessions(&pool, all)).await;
    assert_eq!(rows(&cluster, room, COUNT).await, expected(&sent));
    assert_eq!(count(&cluster, "rejected_event").await, 0);
}

#[tokio::test]
async fn lost_answer_to_a_commit_applies_each_event_once() {
    let mut cluster = start().await;
    let direct = cluster.database.url("roomcast_persister");
    let server = direct
        .rsplit_once('@')
        .and_then(|(_, host_and_path)| host_and_path.split_once('/'))
        .expect("a valid URL")
        .0
        .to_owned();
    let proxy = CommitCutter::start(server.clone(), 3).await;
    cluster.persister[0].terminate();
    let proxied = direct.replace(&server, &format!("127.0.0.1:{}", proxy.port()));
    cluster.persister[0].set("DATABASE_URL", proxied);
    cluster.persister[0].restart();
    let (ann, room) = room_of(&cluster).await;
    let sent = send_all(&ann, room, 0..COUNT).await;
    assert_eq!(rows(&cluster, room, COUNT).await, expected(&sent));
    assert_eq!(count(&cluster, "rejected_event").await, 0);
    assert_ne!(proxy.cuts(), 0, "some answers to a COMMIT must have been dropped");
}
