//! Tests that programs of this version work with events and tables of a later one.

use async_nats::jetstream::Context;
use serde_json::{Value, json};
use service::{nats::BrokerUser, schema};
use sqlx::PgPool;
use tests::paths;
use tests::{client::Rest, cluster::sign, eventually};

use super::{rows, send, shard, start, wait_for_metric};

async fn append(api: &Context, subject: &str, payload: &Value) -> u64 {
    let ack =
        api.publish(subject.to_owned(), payload.to_string().into()).await.expect("the message is published");
    ack.await.expect("the event is stored").sequence
}

#[tokio::test]
async fn events_of_a_later_version_are_pushed_as_they_are_and_kept() {
    let cluster = start().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = cluster.socket(0, "ann").await;
    socket.join_room(room).await;
    // Appends as api's user: no other user may append.
    let api = cluster.jetstream(BrokerUser::Api).await;
    let later = json!({ "room": room, "user": "ann", "reaction": "+1" });
    let unknown = append(&api, &format!("chat.0.room.{room}.reaction-add"), &later).await;
    let message = json!({
        "message": "hi", "room": room, "user": "ann", "created_at": "2026-11-21T08:51:26.593514Z",
        "thread": { "id": 7 },
    });
    let extended = append(&api, &format!("chat.0.room.{room}.chat-message"), &message).await;
    let made = json!({
        "name": "f", "description": null, "private": false, "users": [], "team": null, "user": "ann",
        "kind": "forum", "active": true, "created_at": "2026-11-21T08:51:26Z",
        "activity": "2026-11-21T08:51:26Z", "unread": 0,
    });
    let unknown_kind = append(&api, "chat.system.system.-.room-made", &made).await;

    let push = socket.event("reaction-add").await;
    assert_eq!((push.id(), &push.data), (unknown, &later));
    let push = socket.event("chat-message").await;
    assert_eq!((push.id(), &push.data), (extended, &message));

    let last = send(&ann, room, "goes on").await;
    let expected = [(extended, "hi".to_owned()), (last, "goes on".to_owned())];
    assert_eq!(rows(&cluster, room, 2).await, expected);
    let pool = cluster.database.pool().await;
    let rejected: Vec<(i16, i64, Vec<u8>, String, bool)> = eventually("the events are recorded", || async {
        let sql = "SELECT shard, seq, payload, cause, stored_at IS NOT NULL FROM rejected_event ORDER BY shard, seq";
        let rejected: Vec<_> = sqlx::query_as(sql).fetch_all(&pool).await.ok()?;
        (rejected.len() >= 3).then_some(rejected)
    })
    .await;
    let row = |shard: i16, seq: u64, payload: &Value, cause: &str| {
        let seq = i64::try_from(seq).expect("a valid sequence");
        (shard, seq, payload.to_string().into_bytes(), cause.to_owned(), true)
    };
    let expected = [
        row(-1, unknown_kind, &made, "unreadable"),
        row(0, unknown, &later, "unreadable"),
        row(0, extended, &message, "unknown-fields"),
    ];
    assert_eq!(rejected, expected);
    wait_for_metric(&cluster.persister[0], "roomcast_unknown_fields_events_total", shard(), 1.0).await;

    // A persister of the later version has written the room: api of this version does not show it.
    let sql = "INSERT INTO room (shard, id, kind, name, private, creator, active, created_at)
               VALUES (-1, $1, 'forum', 'f', FALSE, 'ann', TRUE, now())";
    let id = i64::try_from(unknown_kind).expect("a valid id");
    sqlx::query(sql).bind(id).execute(&pool).await.expect("the query succeeds");
    let admin = sign(&json!({ "user_id": "root", "is_admin": true }));
    let admin = Rest::new(&cluster.api[0].address(), &admin);
    let (status, list) = admin.get(paths::ROOMS).await;
    assert_eq!(status, 200, "{list}");
    assert!(list.to_string().contains("general") && !list.to_string().contains("forum"), "{list}");
    let (status, answer) = admin.get(&paths::room(unknown_kind)).await;
    assert_eq!(status, 503, "{answer}");
}

/// Runs one statement as the database's superuser.
async fn change(pool: &PgPool, sql: &'static str) {
    sqlx::raw_sql(sql).execute(pool).await.expect("the statement succeeds");
}

#[tokio::test]
async fn older_programs_run_on_later_tables_until_the_minimum_version_forbids_it() {
    let mut cluster = start().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let pool = cluster.database.pool().await;
    change(
        &pool,
        "ALTER TABLE message ADD COLUMN later text; CREATE TABLE of_later (shard smallint);
         INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'later', TRUE, '\\x00', 1)",
    )
    .await;
    assert!(cluster.persister[0].terminate().success());
    cluster.persister[0].restart();
    cluster.wait_until_ready().await;
    let first = send(&ann, room, "0").await;
    assert_eq!(rows(&cluster, room, 1).await, [(first, "0".to_owned())]);

    change(&pool, "UPDATE schema_compatibility SET minimum = 9999").await;
    let wait_until_readyz = async |node: &tests::cluster::Node, text: &str| {
        eventually(text, || async { node.readyz().await.filter(|readiness| readiness.contains(text)) }).await
    };
    wait_until_readyz(&cluster.api[0], "upgrade this api").await;
    assert!(cluster.persister[0].terminate().success());
    cluster.persister[0].restart();
    eventually("the persister refuses to start", || async {
        cluster.persister[0].tail().contains("upgrade this persister").then_some(())
    })
    .await;

    change(&pool, "UPDATE schema_compatibility SET minimum = 1").await;
    cluster.persister[0].restart();
    cluster.wait_until_ready().await;

    // An api that is upgraded before the persister waits for it, and answers no request of sockets.
    change(&pool, "UPDATE _sqlx_migrations SET success = FALSE").await;
    assert!(cluster.api[0].terminate().success());
    cluster.api[0].restart();
    let readiness = wait_until_readyz(&cluster.api[0], "upgrade the persister").await;
    assert!(readiness.contains(&format!("this api needs {}", schema::VERSION)), "{readiness}");
    change(&pool, "UPDATE _sqlx_migrations SET success = TRUE").await;
    cluster.wait_until_ready().await;
    let mut socket = cluster.socket(0, "ann").await;
    socket.join_room(room).await;
}
