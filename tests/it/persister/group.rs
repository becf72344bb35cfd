//! Tests batches of several shards that are written in one transaction: each shard keeps its own promises.

use std::time::Duration;

use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, PgPool};
use tests::{
    client::Rest,
    cluster::{Cluster, Size},
    eventually,
    postgres::Database,
};

use super::{count, expected, rows, send};

const FOUR_SHARDS: (&str, &str) = ("ROOMCAST_SHARDS", "4");
const ROOMS: usize = 8;

/// Creates rooms in all four shards.
async fn create_rooms(cluster: &Cluster) -> (Rest, Vec<u64>) {
    let ann = cluster.rest(0, "ann");
    let mut rooms = Vec::new();
    for n in 0..ROOMS {
        rooms.push(ann.create_room(&n.to_string()).await);
    }
    let mut shards: Vec<_> = Vec::new();
    for room in &rooms {
        shards.push(cluster.shard_of(*room).await);
    }
    shards.sort();
    shards.dedup();
    assert_eq!(shards.len(), 4, "the rooms must be in all shards");
    (ann, rooms)
}

/// Number of transactions of the persisters, and the number of batches in them.
async fn transactions_and_batches(cluster: &Cluster) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for node in &cluster.persister {
        for line in node.metrics().await.lines() {
            let value = || line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0.0);
            if line.starts_with("roomcast_persister_group_shards_count") {
                sums.0 += value();
            } else if line.starts_with("roomcast_persister_group_shards_sum") {
                sums.1 += value();
            }
        }
    }
    sums
}

/// Sends a message to each room at the same time.
async fn send_to_all(ann: &Rest, rooms: &[u64], text: &str) -> Vec<u64> {
    join_all(rooms.iter().map(|room| send(ann, *room, text))).await
}

#[tokio::test]
async fn bad_event_among_those_of_several_shards_is_rejected_alone() {
    let cluster = Cluster::start_with(Size::default(), Database::shared(), &[FOUR_SHARDS]).await;
    let (ann, rooms) = create_rooms(&cluster).await;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                      IF NEW.body LIKE 'poison%' THEN RAISE 'out of cheese' USING ERRCODE = '22000'; END IF;
                      RETURN NEW;
                  END $$;
                  CREATE TRIGGER refuse BEFORE INSERT ON message FOR EACH ROW EXECUTE FUNCTION refuse();";
    let pool = cluster.database.pool().await;
    sqlx::raw_sql(AssertSqlSafe(refuse)).execute(&pool).await.expect("the trigger is created");

    let mut rounds = 0;
    eventually("several shards are written together", || {
        rounds += 1;
        let (ann, rooms, cluster) = (&ann, &rooms, &cluster);
        async move {
            let text = format!("good {rounds}");
            let poison = format!("poison {rounds}");
            tokio::join!(send_to_all(ann, &rooms[1..], &text), send(ann, rooms[0], &poison));
            let (transactions, batches) = transactions_and_batches(cluster).await;
            (rounds >= 20 && batches > transactions).then_some(())
        }
    })
    .await;
    for room in &rooms[1..] {
        assert_eq!(rows(&cluster, *room, rounds).await.len(), rounds);
    }
    eventually("each bad event is recorded", || async {
        (count(&cluster, "rejected_event").await == i64::try_from(rounds).expect("few")).then_some(())
    })
    .await;
    assert_eq!(rows(&cluster, rooms[0], 0).await, [], "a rejected event must not be applied");
}

/// Ends all sessions of persisters now and then, until `stop`.
async fn end_sessions(pool: &PgPool) {
    let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE application_name = 'roomcast-persister' AND datname = current_database()";
    loop {
        sqlx::query(all).execute(pool).await.expect("a superuser may end sessions");
        // There is no event for a new session.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

#[tokio::test]
async fn shards_written_together_by_two_persisters_apply_each_event_once() {
    const COUNT: usize = 60;
    let size = Size { persister: 2, ..Size::default() };
    let cluster = Cluster::start_with(size, Database::shared(), &[FOUR_SHARDS]).await;
    let (ann, rooms) = create_rooms(&cluster).await;
    let pool = cluster.database.pool().await;
    let sending = async {
        let mut ids = vec![Vec::new(); ROOMS];
        for n in 0..COUNT {
            for (room, id) in send_to_all(&ann, &rooms, &n.to_string()).await.into_iter().enumerate() {
                ids[room].push(id);
            }
        }
        ids
    };
    let ids = tokio::select! {
        ids = sending => ids,
        () = end_sessions(&pool) => unreachable!("it never ends"),
    };
    for (room, ids) in rooms.iter().zip(&ids) {
        assert_eq!(rows(&cluster, *room, COUNT).await, expected(ids));
    }
    assert_eq!(count(&cluster, "rejected_event").await, 0);
}

#[tokio::test]
async fn without_group_commit_each_transaction_writes_one_shard() {
    let off = ("ROOMCAST_PERSISTER_GROUP_COMMIT", "false");
    let cluster = Cluster::start_with(Size::default(), Database::shared(), &[FOUR_SHARDS, off]).await;
    let (ann, rooms) = create_rooms(&cluster).await;
    let mut sent = vec![Vec::new(); ROOMS];
    for n in 0..10 {
        for (room, id) in send_to_all(&ann, &rooms, &n.to_string()).await.into_iter().enumerate() {
            sent[room].push(id);
        }
    }
    for (room, ids) in rooms.iter().zip(&sent) {
        assert_eq!(rows(&cluster, *room, 10).await, expected(ids));
    }
    let (transactions, batches) = transactions_and_batches(&cluster).await;
    assert!(transactions > 0.0 && transactions == batches, "{transactions} transactions, {batches} batches");
}
