//! Checks that presence rows of ended fan-out processes are deleted. Each start of a node writes new rows.

use log::purge_below;
use protocol::event::header;
use reqwest::Method;
use serde_json::{Value, json};
use service::nats::BrokerUser;
use sqlx::PgPool;
use tests::paths;
use tests::{cluster::Cluster, eventually};

use super::{place, shard, start, state};

const PEOPLE: i64 = 1_000;
const RESTARTS: i64 = 500;
/// People on each node that is killed or stopped.
const PEOPLE_OF_A_NODE: usize = 10;
/// A sequence that the log does not reach during a test.
const LATER: i64 = 1 << 40;

async fn number(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.expect("a number")
}

/// Inserts the rows that nodes leave behind when they are started and stopped with all their people.
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
    .expect("rows");
}

/// Trims everything that Postgres has from a shard's log, as if it were old.
async fn trim(cluster: &Cluster) {
    let last = state(cluster, shard()).await.last;
    eventually("all of it is applied", || async { (place(cluster, shard()).await.0 >= last).then_some(()) })
        .await;
    purge_below(&cluster.jetstream(BrokerUser::Persister).await, shard(), last + 1)
        .await
        .expect("it is purged");
}

#[tokio::test]
async fn restarts_leave_no_stale_rows_and_keep_present_people() {
    let cluster = start().await;
    let pool = cluster.database.pool().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = cluster.socket(0, "eve").await;
    socket.join_room(room).await;
    // Bob comes and goes: his leave is in the log. A join that nobody was told of needs no leave.
    let mut bob = cluster.socket(0, "bob").await;
    bob.join_room(room).await;
    let bob_is_here = "SELECT count(*) FROM participant WHERE user_id = 'bob' AND present";
    eventually("bob is here", || async { (number(&pool, bob_is_here).await == 1).then_some(()) }).await;
    bob.leave_room(room).await;
    let bob_left = "SELECT count(*) FROM participant WHERE user_id = 'bob' AND NOT present AND changed > 0";
    eventually("bob has left", || async { (number(&pool, bob_left).await == 1).then_some(()) }).await;
    // An invitation into a room that is closed, and one into a room that is not.
    let mut invited_into = Vec::new();
    for name in ["open", "closed"] {
        let private = json!({ "name": name, "private": true });
        let (_, room) = ann.post(paths::ROOMS, private).await;
        let room = room["id"].as_u64().expect("an id");
        let path = paths::invitations(room);
        let (status, answer) = ann.post(&path, json!({ "user": "dan" })).await;
        assert!(status.is_success(), "{answer}");
        invited_into.push(room);
    }
    let path = paths::room(invited_into[1]);
    ann.send(Method::DELETE, &path, &json!(null)).await.expect("an answer");

    let room = i64::try_from(room).expect("an id");
    // The log may still have an older word of these.
    sqlx::query(
        "INSERT INTO participant (shard, room, user_id, incarnation, counter, present, changed)
         SELECT 0, $1, 'late' || n, -1, 1, false, $2 FROM generate_series(1, 7) AS n",
    )
    .bind(room)
    .bind(LATER)
    .execute(&pool)
    .await
    .expect("rows");
    sqlx::query(
        "INSERT INTO online (shard, user_id, incarnation, counter, present, changed)
         SELECT 0, 'u' || n, -1, 1, false, 1 FROM generate_series(1, $1) AS n",
    )
    .bind(PEOPLE)
    .execute(&pool)
    .await
    .expect("rows");

    for half in [0..RESTARTS / 2, RESTARTS / 2..RESTARTS] {
        leave_rows(&pool, room, half).await;
        trim(&cluster).await;
        let gone = "SELECT count(*) FROM participant WHERE NOT present";
        eventually("only what may be contradicted is left", || async {
            (number(&pool, gone).await == 7).then_some(())
        })
        .await;
    }
    eventually("the table is as small as its few rows", || async {
        sqlx::raw_sql("VACUUM participant").execute(&pool).await.ok()?;
        (number(&pool, "SELECT pg_relation_size('participant')").await < 1 << 20).then_some(())
    })
    .await;
    assert_eq!(number(&pool, "SELECT count(*) FROM participant WHERE present").await, 1, "eve is here");
    assert_eq!(number(&pool, "SELECT count(*) FROM online WHERE NOT present").await, 0);
    let invited = "SELECT room FROM invitation WHERE user_id = 'dan'";
    eventually("only the invitation into the open room is left", || async {
        let rooms: Vec<i64> = sqlx::query_scalar(invited).fetch_all(&pool).await.ok()?;
        (rooms == [i64::try_from(invited_into[0]).ok()?]).then_some(())
    })
    .await;
}

/// Waits until `count` users have left the room; returns the sequences of their leave events from the rows.
async fn until_all_have_left(cluster: &Cluster, pool: &PgPool, users: &str, count: usize) -> Vec<i64> {
    let rows = eventually("everybody of the stopped node has left", || async {
        let sql =
            "SELECT user_id, incarnation, changed FROM participant WHERE user_id LIKE $1 AND NOT present";
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(sql).bind(users).fetch_all(pool).await.ok()?;
        (rows.len() == count).then_some(rows)
    })
    .await;
    let jetstream = cluster.jetstream(BrokerUser::Persister).await;
    let mut changed = Vec::new();
    for (user, incarnation, seq) in rows {
        let stored = log::get(&jetstream, shard(), u64::try_from(seq).expect("a sequence")).await;
        let stored = stored.expect("the log answers").expect("it has the event");
        assert!(stored.subject.ends_with(".participant-leave"), "{}", stored.subject);
        let leave: Value = serde_json::from_slice(&stored.payload).expect("JSON");
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
    for how in ["killed", "stopped"] {
        let mut sockets = Vec::new();
        for n in 0..PEOPLE_OF_A_NODE {
            let mut socket = cluster.socket(0, &format!("{how}-{n}")).await;
            socket.join_room(room).await;
            sockets.push(socket);
        }
        let users = format!("{how}-%");
        eventually("they are here", || async {
            let sql = "SELECT count(*) FROM participant WHERE user_id LIKE $1 AND present";
            let here: i64 = sqlx::query_scalar(sql).bind(&users).fetch_one(&pool).await.ok()?;
            (usize::try_from(here).ok()? == PEOPLE_OF_A_NODE).then_some(())
        })
        .await;
        if how == "killed" {
            cluster.fanout[0].kill9();
        } else {
            let mut node = cluster.fanout.remove(0);
            let stopping = tokio::task::spawn_blocking(move || {
                let status = node.terminate();
                (node, status)
            });
            drop(sockets);
            let (node, status) = stopping.await.expect("it stops");
            assert_eq!(status.code(), Some(0));
            cluster.fanout.insert(0, node);
        }
        cluster.fanout[0].restart();
        cluster.fanout[0].wait_until_ready().await;
        left.extend(until_all_have_left(&cluster, &pool, &users, PEOPLE_OF_A_NODE).await);
    }
    left.sort_unstable();
    left.dedup();
    assert_eq!(left.len(), 2 * PEOPLE_OF_A_NODE, "each has a leave of their own");
    let gone = "SELECT count(*) FROM participant WHERE NOT present";
    eventually("no row is left of them", || async {
        // Eve's node was killed too, and her leave may come later.
        trim(&cluster).await;
        (number(&pool, gone).await == 0).then_some(())
    })
    .await;
}
