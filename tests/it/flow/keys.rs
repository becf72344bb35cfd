//! Checks that a message with a UUIDv7 key is stored once, even if a client repeats it hours later.

use async_nats::jetstream;
use protocol::{
    clock::Timestamp,
    event::EventName,
    id::{RoomId, Shard},
    subject::Channel,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use service::nats::BrokerUser;
use sqlx::{Connection as _, PgConnection};
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size},
    eventually,
};

/// A UUIDv7 made `seconds` ago; `n` makes it unique.
fn aged(seconds: i64, n: u64) -> String {
    let made_at = Timestamp::now().unix_ms() - seconds * 1_000;
    format!("{:08x}-{:04x}-7abc-8def-{n:012x}", made_at >> 16, made_at & 0xffff)
}

async fn send(rest: &Rest, room: u64, text: &str, key: &str) -> (u16, Value) {
    let body = json!({ "message": text, "client_id": key });
    let (status, answer) = rest.post(&paths::messages(room), body).await;
    (status.as_u16(), answer)
}

/// Makes the broker forget the shard's message ids, as it does after a minute.
async fn forget_keys(cluster: &mut Cluster, shard: Shard) {
    let jetstream: jetstream::Context = cluster.jetstream(BrokerUser::Persister).await;
    let last = log::state(&jetstream, shard).await.expect("a shard").last;
    log::purge_below(&jetstream, shard, last + 1).await.expect("the stream is purged");
    cluster.nats.kill9();
    cluster.nats.restart();
    cluster.wait_until_ready().await;
}

#[tokio::test]
async fn old_uuid_key_is_stored_once_after_the_broker_has_forgotten_it() {
    let mut cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let (room, other) = (ann.create_room("general").await, ann.create_room("other").await);
    let shard = cluster.shard_of(room).await;
    let pool = cluster.database.pool().await;
    let (key, young, plain) = (aged(120, 1), aged(0, 2), "plain".to_owned());
    let mut first = Vec::new();
    for key in [&key, &young, &plain] {
        let (status, message) = send(&ann, room, "hello", key).await;
        assert_eq!(status, 201, "{message}");
        first.push(message);
    }
    eventually("the keys are indexed", || async {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM message_key").fetch_one(&pool).await.ok()?;
        (count == 2).then_some(())
    })
    .await;
    forget_keys(&mut cluster, shard).await;
    let again = eventually("api stores messages again", || async {
        let (status, message) = send(&ann, room, "hello", &plain).await;
        (status == 201).then_some(message)
    })
    .await;
    assert_ne!(again["id"], first[2]["id"], "a key that is no UUIDv7 is forgotten");
    assert_eq!(send(&ann, room, "hello", &key).await, (201, first[0].clone()));
    let (status, problem) = send(&ann, room, "another", &key).await;
    assert_eq!((status, &problem["code"]), (422, &json!("key_reused")));
    // A key is valid for one sender in one room.
    for (rest, room) in [(&ann, other), (&bob, room)] {
        let (status, message) = send(rest, room, "hello", &key).await;
        assert!(status == 201 && message["created_at"] != first[0]["created_at"], "{message}");
    }
    // A repeat is answered with the original message, even after an edit and before the key is indexed.
    let mut held = pool.begin().await.expect("a transaction");
    sqlx::query("LOCK TABLE message_key IN SHARE MODE").execute(&mut *held).await.expect("a lock");
    let late = aged(3_600, 3);
    let (_, message) = send(&ann, room, "helo", &late).await;
    let path = paths::message(room, &message["id"]);
    let edit = json!({ "message": "hello" });
    let (status, edited) = ann.patch(&path, edit).await;
    assert_eq!(status, StatusCode::OK, "{edited}");
    assert_eq!(send(&ann, room, "helo", &late).await, (201, message));
    held.rollback().await.expect("the lock is released");
    let metrics = cluster.api[0].metrics().await;
    for line in ["{outcome=\"found\"} 3", "{outcome=\"new\"} 4"] {
        assert!(metrics.contains(&format!("roomcast_old_keys_total{line}")), "{line} in {metrics}");
    }
    let offset = metrics.lines().find_map(|line| line.strip_prefix("roomcast_clock_offset_seconds "));
    let offset: f64 = offset.and_then(|value| value.parse().ok()).expect("the offset of the clock");
    assert!(offset.abs() < 1.5, "the clocks of one machine agree: {offset}");
}

#[tokio::test]
async fn old_uuid_key_is_refused_and_not_stored_while_it_cannot_be_looked_up() {
    let mut cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    cluster.persister[0].kill9();
    let sent = ann.send_message(room, "not in Postgres").await;
    let (status, problem) = send(&ann, room, "hello", &aged(120, 1)).await;
    assert_eq!((status, &problem["code"]), (503, &json!("unavailable")), "{problem}");
    let jetstream = cluster.jetstream(BrokerUser::Persister).await;
    let shards = log::discover(&jetstream).await.expect("a log").shards;
    let subject = Channel::Room(RoomId(room)).log_subject(shards, EventName::ChatMessage, None);
    let last = log::last(&jetstream, &subject).await.expect("the log answers").expect("a message");
    assert_eq!(last.seq, sent, "the refused message is not stored");
    cluster.persister[0].restart();
    let key = aged(120, 2);
    let id = eventually("the message is accepted again", || async {
        let (status, message) = send(&ann, room, "hello", &key).await;
        (status == 201).then(|| message["id"].clone())
    })
    .await;
    assert_eq!(send(&ann, room, "hello", &key).await.1["id"], id);
}

/// The statement with which a persister of schema version 2 indexes words and removes messages from `search_due`.
const OLDER_STEP: &str = "
WITH first AS (
    SELECT after_seq, rooms, ids FROM search_due WHERE shard = $1 ORDER BY after_seq LIMIT $2 FOR UPDATE
), due AS (
    SELECT *, $2 - (sum(cardinality(ids)) OVER (ORDER BY after_seq) - cardinality(ids))::int AS free FROM first
), part AS (
    SELECT after_seq, free, cardinality(ids) > free AS more, rooms[:free] AS rooms, ids[:free] AS ids
    FROM due WHERE free > 0
), finished AS (
    DELETE FROM search_due d USING part
    WHERE NOT part.more AND d.shard = $1 AND d.after_seq = part.after_seq
), shortened AS (
    UPDATE search_due d SET rooms = d.rooms[free + 1:], ids = d.ids[free + 1:] FROM part
    WHERE part.more AND d.shard = $1 AND d.after_seq = part.after_seq
)
SELECT count(*) FROM part";

#[tokio::test]
async fn key_is_indexed_while_an_older_persister_indexes_the_words() {
    let mut cluster = Cluster::start(Size::default()).await;
    assert!(cluster.persister[0].terminate().success());
    let mut older =
        PgConnection::connect(&cluster.database.url("roomcast_persister")).await.expect("a session");
    // Rows as an older persister writes them: `search_due` does not mention keys.
    let keys = [aged(120, 1), "plain".to_owned(), aged(120, 3)];
    sqlx::query(
        "INSERT INTO message (shard, room, id, author, body, client_id, created_at)
         SELECT 0, 7, n, 'ann', 'hello', key, now() FROM unnest($1::text[]) WITH ORDINALITY AS sent (key, n)",
    )
    .bind(&keys[..])
    .execute(&mut older)
    .await
    .expect("messages");
    let note =
        "INSERT INTO search_due (shard, after_seq, rooms, ids) VALUES (0, 0, '{7, 7, 7}', '{1, 2, 3}')";
    sqlx::raw_sql(note).execute(&mut older).await.expect("a note");
    for (rows, expected) in [(2, vec![1_i64]), (2, vec![1, 3])] {
        sqlx::query(OLDER_STEP).bind(0_i16).bind(rows).fetch_all(&mut older).await.expect("a step");
        let found: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM message_key WHERE shard = 0 AND room = 7 AND client_id::text = ANY ($1) ORDER BY id",
        )
        .bind(&keys[..])
        .fetch_all(&mut older)
        .await
        .expect("the indexed ids");
        assert_eq!(found, expected);
    }
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM search_due").fetch_one(&mut older).await.expect("a count");
    assert_eq!(left, 0);
}
