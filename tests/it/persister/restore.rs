//! Tests a database restored from an older dump: it catches up from the log, or reports what the log no longer has.

use std::process::Command;

use service::nats::BrokerUser;
use tests::postgres::Database;

use super::{Cluster, expected, rows, send, send_all, shard, start, state, wait_until_refused, watermark};

fn dump(database: &Database, file: &std::path::Path) {
    let mut command = Command::new("pg_dump");
    let dumped =
        command.arg("-f").arg(file).arg("-d").arg(database.url("postgres")).output().expect("pg_dump runs");
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
}

fn restore(file: &std::path::Path) -> Database {
    let database = Database::shared();
    let mut command = Command::new("psql");
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &database.url("postgres"), "-f"]).arg(file);
    let restored = command.output().expect("psql runs");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    database
}

/// Restarts the persister and api with another database.
fn move_to(cluster: &mut Cluster, database: Database) {
    cluster.persister[0].terminate();
    cluster.api[0].terminate();
    cluster.persister[0].set("DATABASE_URL", database.url("roomcast_persister"));
    cluster.api[0].set("DATABASE_URL", database.url("roomcast_api"));
    cluster.database = database;
    cluster.persister[0].restart();
    cluster.api[0].restart();
}

#[tokio::test]
async fn restored_older_dump_catches_up_from_the_log_or_reports_what_is_missing() {
    let mut cluster = start().await;
    let folder = tests::folder::Folder::new();
    let file = folder.path().join("dump.sql");
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut sent = send_all(&ann, room, 0..10).await;
    rows(&cluster, room, 10).await;
    dump(&cluster.database, &file);
    sent.extend(send_all(&ann, room, 10..20).await);
    rows(&cluster, room, 20).await;

    move_to(&mut cluster, restore(&file));
    cluster.wait_until_ready().await;
    assert_eq!(rows(&cluster, room, 20).await, expected(&sent));
    sent.push(send(&ann, room, "20").await);
    assert_eq!(rows(&cluster, room, 21).await, expected(&sent));
    assert_eq!(state(&cluster, shard()).await.epoch, 1, "the epoch must stay, since no id was given twice");

    // Restores the same dump again, after the log has lost some of the events after it.
    log::purge_below(&cluster.jetstream(BrokerUser::Persister).await, shard(), sent[15])
        .await
        .expect("the log is purged");
    move_to(&mut cluster, restore(&file));
    let readiness = wait_until_refused(&cluster.persister[0]).await;
    assert!(readiness.contains(&format!("{} to {}", sent[10], sent[14])), "{readiness}");
    assert_eq!(watermark(&cluster, shard()).await, (sent[9], 1));
}
