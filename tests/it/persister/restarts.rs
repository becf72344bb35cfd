//! Tests that presence rows of ended fanout processes are deleted. Each start of a node writes new rows.

use log::purge_below;
use protocol::event::header;
use serde_json::{Value, json};
use service::nats::BrokerUser;
use sqlx::PgPool;
use tests::paths;
use tests::{cluster::Cluster, eventually};

use super::{shard, start, state, watermark};

const PEOPLE: i64 = 1_000;
const RESTARTS: i64 = 500;
/// Number of participants on each node that is killed or stopped.
const PEOPLE_OF_A_NODE: usize = 10;
/// A sequence that the log does not reach during a test.
const LATER: i64 = 1 << 40;

async fn number(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.expect("the query succeeds")
}

/// Inserts the rows of nodes that were started and stopped with all their participants.
async fn leave_rows(pool: &PgPool, room: i64, restarts: std::ops::Range<i64>) {
    sqlx::query(
        "INSERT INTO participant (shard, room, user_id, incarnation, counter, present, changed)
         SELECT 0, $1, 'u' || person, -restart, person, false, 1
         FROM generate_series(1, $2) AS person, generate_series($3, $4) AS restart",
    )
    .bind(room)
    .bind(PEOPLE)
    .bind(restarts.start + 1)
    .bind(restarts.end)
    .execute(pool)
    .await
    .expect("the query succeeds");
}

/// Trims everything that Postgres has from a shard's log, as if it were old.
async fn trim(cluster: &Cluster) {
    let last = state(cluster, shard()).await.last;
    eventually("the whole log is applied", || async {
        (watermark(cluster, shard()).await.0 >= last).then_some(())
    })
    .await;
    purge_below(&cluster.jetstream(BrokerUser::Persister).await, shard(), last + 1)
        .await
        .expect("the log is purged");
}

#[tokio::test]
async fn restarts_leave_no_stale_rows_and_keep_present_people() {
    let cluster = start().await;
    let pool = cluster.database.pool().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = cluster.socket(0, "eve").await;
    socket.join_room(room).await;
    // Bob joins and leaves. The join must be stored before the leave: otherwise none of them is appended.
    let mut bob = cluster.socket(0, "bob").await;
    bob.join_room(room).await;
    let bob_is_here = "SELECT count(*) FROM participant WHERE user_id = 'bob' AND present";
    eventually("bob is a participant", || async { (number(&pool, bob_is_here).await == 1).then_some(()) })
        .await;
    bob.leave_room(room).await;
    let bob_left = "SELECT count(*) FROM participant WHERE user_id = 'bob' AND NOT present AND changed > 0";
    eventually("bob has left", || async { (number(&pool, bob_left).await == 1).then_some(()) }).await;
    // Creates an invitation to a room that will be closed, and one to a room that stays open.
    let mut invited_into = Vec::new();
    for name in ["open", "closed"] {
        let room = ann.create(paths::ROOMS, json!({ "name": name, "private": true })).await;
        ann.invite(room, "dan").await;
        invited_into.push(room);
    }
    ann.close_room(invited_into[1]).await;

    let room = i64::try_from(room).expect("a valid id");
    // The log may still have older presence events of these users, so their rows must stay.
    sqlx::query(
        "INSERT INTO participant (shard, room, user_id, incarnation, counter, present, changed)
         SELECT 0, $1, 'late' || n, -1, 1, false, $2 FROM generate_series(1, 7) AS n",
    )
    .bind(room)
    .bind(LATER)
    .execute(&pool)
    .await
    .expect("the query succeeds");
    sqlx::query(
        "INSERT INTO online (shard, user_id, incarnation, counter, present, changed)
         SELECT 0, 'u' || n, -1, 1, false, 1 FROM generate_series(1, $1) AS n",
    )
    .bind(PEOPLE)
    .execute(&pool)
    .await
    .expect("the query succeeds");

    for half in [0..RESTARTS / 2, RESTARTS / 2..RESTARTS] {
        leave_rows(&pool, room, half).await;
        trim(&cluster).await;
        let gone = "SELECT count(*) FROM participant WHERE NOT present";
        eventually("only rows that an older event could contradict are left", || async {
            (number(&pool, gone).await == 7).then_some(())
        })
        .await;
    }
    eventually("the table has no space of deleted rows", || async {
        sqlx::raw_sql("VACUUM participant").execute(&pool).await.ok()?;
        (number(&pool, "SELECT pg_relation_size('participant')").await < 1 << 20).then_some(())
    })
    .await;
    assert_eq!(
        number(&pool, "SELECT count(*) FROM participant WHERE present").await,
        1,
        "eve must still be a participant"
    );
    assert_eq!(number(&pool, "SELECT count(*) FROM online WHERE NOT present").await, 0);
    let invited = "SELECT room FROM invitation WHERE user_id = 'dan'";
    eventually("only the invitation to the open room is left", || async {
        let rooms: Vec<i64> = sqlx::query_scalar(invited).fetch_all(&pool).await.ok()?;
        (rooms == [i64::try_from(invited_into[0]).ok()?]).then_some(())
    })
    .await;
}

/// Waits until `count` users have left, and checks that their rows name their leave events; returns their sequences.
async fn until_all_have_left(cluster: &Cluster, pool: &PgPool, users: &str, count: usize) -> Vec<i64> {
    let rows = eventually("all participants of the node have left", || async {
        let sql =
            "SELECT user_id, incarnation, changed FROM participant WHERE user_id LIKE $1 AND NOT present";
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(sql).bind(users).fetch_all(pool).await.ok()?;
        (rows.len() == count).then_some(rows)
    })
    .await;
    let jetstream = cluster.jetstream(BrokerUser::Persister).await;
    let mut changed = Vec::new();
    for (user, incarnation, seq) in rows {
        let stored = log::get(&jetstream, shard(), u64::try_from(seq).expect("a valid sequence")).await;
        let stored = stored.expect("the log answers").expect("the log has the event");
        assert!(stored.subject.ends_with(".participant-leave"), "{}", stored.subject);
        let leave: Value = serde_json::from_slice(&stored.payload).expect("valid JSON");
        assert_eq!(leave["user"], *user);
        let by = stored.headers.get(header::INCARNATION).and_then(|by| by.as_str().parse().ok());
        assert_eq!(by.map(u64::cast_signed), Some(incarnation));
        changed.push(seq);
    }
    changed
}

#[tokio::test]
async fn rows_of_killed_and_stopped_nodes_name_their_leaves_and_go_with_them() {
    let mut cluster = start().await;
    let pool = cluster.database.pool().await;
    let room = cluster.rest(0, "ann").create_room("general").await;
    let mut eve = cluster.socket(0, "eve").await;
    eve.join_room(room).await;
    let mut left = Vec::new();
    for end in ["killed", "stopped"] {
        let mut sockets = Vec::new();
        for n in 0..PEOPLE_OF_A_NODE {
            let mut socket = cluster.socket(0, &format!("{end}-{n}")).await;
            socket.join_room(room).await;
            sockets.push(socket);
        }
        let users = format!("{end}-%");
        eventually("all participants are in Postgres", || async {
            let sql = "SELECT count(*) FROM participant WHERE user_id LIKE $1 AND present";
            let present: i64 = sqlx::query_scalar(sql).bind(&users).fetch_one(&pool).await.ok()?;
            (usize::try_from(present).ok()? == PEOPLE_OF_A_NODE).then_some(())
        })
        .await;
        if end == "killed" {
            cluster.fanout[0].kill9();
        } else {
            let mut node = cluster.fanout.remove(0);
            let stopping = tokio::task::spawn_blocking(move || {
                let status = node.terminate();
                (node, status)
            });
            drop(sockets);
            let (node, status) = stopping.await.expect("the node stops");
            assert_eq!(status.code(), Some(0));
            cluster.fanout.insert(0, node);
        }
        cluster.fanout[0].restart();
        cluster.fanout[0].wait_until_ready().await;
        left.extend(until_all_have_left(&cluster, &pool, &users, PEOPLE_OF_A_NODE).await);
    }
    left.sort_unstable();
    left.dedup();
    assert_eq!(left.len(), 2 * PEOPLE_OF_A_NODE, "each user must have a leave event of their own");
    let gone = "SELECT count(*) FROM participant WHERE NOT present";
    eventually("no row of a participant who left remains", || async {
        // Eve's node was killed too, and her leave may be appended later.
        trim(&cluster).await;
        (number(&pool, gone).await == 0).then_some(())
    })
    .await;
}
