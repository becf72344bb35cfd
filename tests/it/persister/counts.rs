//! Tests the counts that triggers of the schema keep, and those of rows that are older than the triggers.

use service::schema::VERSION;
use sqlx::PgPool;
use tests::postgres::Database;

/// Topics 1 to 5, of which 2 is closed; a direct room in which both users have written; members of a room and a team.
const ROWS: &str = "
INSERT INTO watermark (shard, seq) VALUES (-1, 0), (0, 0);
INSERT INTO room (shard, id, kind, name, private, creator, active, created_at, detail)
SELECT -1, n, 'topic', 'topic', false, 'ann', true, now(), '{\"topic\": {\"category\": \"films\"}}'
FROM generate_series(1, 5) AS n;
INSERT INTO room_state (shard, room, closed_at, changed) VALUES (0, 2, now(), 1);
INSERT INTO room (shard, id, kind, name, private, creator, active, created_at, pair)
VALUES (-1, 6, 'direct', 'ann, bob', true, 'ann', true, now(), '{ann,bob}');
INSERT INTO message (shard, room, id, author, body, created_at)
VALUES (0, 6, 7, 'ann', 'a', now()), (0, 6, 8, 'bob', 'b', now()), (0, 6, 9, 'ann', 'c', now());
INSERT INTO room_member (shard, room, user_id, added_by) VALUES (0, 9, 'bob', 'ann'), (0, 9, 'cid', 'ann');
INSERT INTO team_member (shard, team, user_id, added_by) VALUES (0, 9, 'bob', 'ann')";

/// Messages of a direct room in shard 1, the second of two shards.
const DIRECT_ROOM_OF_ANOTHER_SHARD: &str = "
INSERT INTO watermark (shard, seq) VALUES (1, 0);
INSERT INTO room (shard, id, kind, name, private, creator, active, created_at, pair)
VALUES (-1, 7, 'direct', 'ann, cid', true, 'ann', true, now(), '{ann,cid}');
INSERT INTO message (shard, room, id, author, body, created_at) VALUES (1, 7, 10, 'cid', 'd', now())";

async fn run(pool: &PgPool, sql: &'static str) {
    sqlx::raw_sql(sql).execute(pool).await.expect(sql);
}

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.expect(sql)
}

async fn topics(pool: &PgPool) -> i64 {
    count(pool, "SELECT coalesce(sum(topics), 0)::int8 FROM topic_count WHERE category = 'films'").await
}

#[tokio::test]
async fn older_rows_are_counted_once_by_the_migration() {
    let database = Database::shared();
    database.migrate_to(6).await;
    let pool = database.pool().await;
    run(&pool, ROWS).await;
    run(&pool, DIRECT_ROOM_OF_ANOTHER_SHARD).await;
    database.migrate_to(VERSION).await;
    assert_eq!(topics(&pool).await, 4);
    assert_eq!(count(&pool, "SELECT members FROM room_size WHERE shard = 0 AND room = 9").await, 2);
    assert_eq!(count(&pool, "SELECT members FROM team_size WHERE shard = 0 AND team = 9").await, 1);
    assert_eq!(count(&pool, "SELECT id FROM room_writer WHERE room = 6 AND user_id = 'ann'").await, 9);
    assert_eq!(count(&pool, "SELECT id FROM room_writer WHERE room = 6 AND user_id = 'bob'").await, 8);
    assert_eq!(count(&pool, "SELECT id FROM room_writer WHERE shard = 1 AND room = 7").await, 10);
    assert_eq!(count(&pool, "SELECT count(*) FROM room_writer").await, 3);
}

/// A topic as written by an older persister, which does not write its category.
const TOPIC_WITHOUT_DETAIL: &str = "
INSERT INTO room (shard, id, kind, name, private, creator, active, created_at)
VALUES (-1, 50, 'topic', 'topic', false, 'ann', true, now())";
const CLOSED: &str = "INSERT INTO room_state (shard, room, closed_at, changed) VALUES (0, 50, now(), 60)";
const FILLED_IN: &str = "UPDATE room SET detail = '{\"topic\": {\"category\": \"films\"}}' WHERE id = 50";

#[tokio::test]
async fn closed_topic_whose_category_is_filled_in_later_is_not_counted() {
    let database = Database::shared();
    database.migrate_to(VERSION).await;
    let pool = database.pool().await;
    for sql in [TOPIC_WITHOUT_DETAIL, CLOSED, FILLED_IN] {
        run(&pool, sql).await;
    }
    assert_eq!(topics(&pool).await, 0);
}

#[tokio::test]
async fn topic_closed_before_the_migration_and_filled_in_after_it_is_not_counted() {
    let database = Database::shared();
    database.migrate_to(6).await;
    let pool = database.pool().await;
    run(&pool, TOPIC_WITHOUT_DETAIL).await;
    run(&pool, CLOSED).await;
    database.migrate_to(VERSION).await;
    run(&pool, FILLED_IN).await;
    assert_eq!(topics(&pool).await, 0);
}

#[tokio::test]
async fn topic_closed_before_the_migration_and_written_after_it_is_not_counted() {
    let database = Database::shared();
    database.migrate_to(6).await;
    let pool = database.pool().await;
    run(&pool, CLOSED).await;
    database.migrate_to(VERSION).await;
    run(&pool, TOPIC_WITHOUT_DETAIL).await;
    run(&pool, FILLED_IN).await;
    assert_eq!(topics(&pool).await, 0);
}

#[tokio::test]
async fn closing_of_a_room_that_is_no_topic_waits_for_no_topic_lock() {
    let database = Database::shared();
    database.migrate_to(VERSION).await;
    let pool = database.pool().await;
    run(&pool, ROWS).await;
    let mut closing = pool.begin().await.expect("the transaction begins");
    sqlx::raw_sql("INSERT INTO room_state (shard, room, closed_at, changed) VALUES (0, 6, now(), 10)")
        .execute(&mut *closing)
        .await
        .expect("the room is closed");
    let locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'";
    let locks: i64 = sqlx::query_scalar(locks).fetch_one(&mut *closing).await.expect("the query succeeds");
    assert_eq!(locks, 0, "the closing of a direct room must take no lock of a count of topics");
    closing.commit().await.expect("the transaction is committed");
    assert_eq!(count(&pool, "SELECT count(*) FROM closed_early").await, 0);
}

#[tokio::test]
async fn topic_that_is_closed_is_not_counted_whichever_is_written_first() {
    let database = Database::shared();
    database.migrate_to(VERSION).await;
    let pool = database.pool().await;
    run(&pool, ROWS).await;
    assert_eq!(topics(&pool).await, 4);
    run(&pool, "UPDATE room_state SET closed_at = now() WHERE room = 2").await;
    assert_eq!(topics(&pool).await, 4, "a second closing must not be counted");
    run(&pool, "INSERT INTO room_state (shard, room, closed_at, changed) VALUES (0, 1000, now(), 2)").await;
    run(
        &pool,
        "INSERT INTO room (shard, id, kind, name, private, creator, active, created_at, detail)
         SELECT -1, n, 'topic', 'topic', false, 'ann', true, now(), '{\"topic\": {\"category\": \"films\"}}'
         FROM generate_series(1000, 1001) AS n",
    )
    .await;
    assert_eq!(
        topics(&pool).await,
        5,
        "only the topic that was not closed before it was written must be counted"
    );
    run(&pool, "INSERT INTO room_state (shard, room, changed) VALUES (0, 1001, 3)").await;
    run(&pool, "UPDATE room_state SET closed_at = now() WHERE room = 1001").await;
    assert_eq!(topics(&pool).await, 4);
}

#[tokio::test]
async fn topics_closed_by_transactions_that_do_not_see_their_creation_are_not_counted() {
    let database = Database::shared();
    database.migrate_to(VERSION).await;
    let pool = database.pool().await;
    let (mut creation, closed) = (pool.begin().await.expect("the transaction begins"), pool.clone());
    let observer = database.pool().await;
    sqlx::raw_sql(
        "INSERT INTO room (shard, id, kind, name, private, creator, active, created_at, detail)
         VALUES (-1, 7, 'topic', 'topic', false, 'ann', true, now(), '{\"topic\": {\"category\": \"films\"}}')",
    )
    .execute(&mut *creation)
    .await
    .expect("the topic is inserted");
    let closing = tokio::spawn(async move {
        run(&closed, "INSERT INTO room_state (shard, room, closed_at, changed) VALUES (0, 7, now(), 1)")
            .await;
    });
    tests::eventually("the closing waits for a lock", || async {
        let waits = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                     WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted";
        (count(&observer, waits).await > 0).then_some(())
    })
    .await;
    creation.commit().await.expect("the transaction is committed");
    closing.await.expect("the room is closed");
    assert_eq!(topics(&pool).await, 0);
}

#[tokio::test]
async fn writers_since_a_stop_are_kept_behind_the_watermark() {
    let database = Database::shared();
    database.migrate_to(VERSION).await;
    let pool = database.pool().await;
    run(&pool, ROWS).await;
    let writer_id = async |user: &'static str| -> Option<i64> {
        sqlx::query_scalar("SELECT id FROM room_writer WHERE room = 6 AND user_id = $1")
            .bind(user)
            .fetch_optional(&pool)
            .await
            .expect("the query succeeds")
    };
    run(&pool, "INSERT INTO search_due (shard, after_seq, rooms, ids) VALUES (0, 6, '{6,6,6}', '{7,8,9}')")
        .await;
    run(&pool, "UPDATE search_due SET rooms = rooms[2:], ids = ids[2:]").await;
    assert_eq!(
        (writer_id("ann").await, writer_id("bob").await),
        (Some(7), None),
        "only the first message must be counted"
    );
    run(&pool, "DELETE FROM search_due").await;
    assert_eq!(
        (writer_id("ann").await, writer_id("bob").await),
        (Some(7), Some(8)),
        "the first message of each user must be kept"
    );
    run(&pool, "INSERT INTO room_state (shard, room, changed, stopped) VALUES (0, 6, 10, 10)").await;
    run(&pool, "INSERT INTO message (shard, room, id, author, body, created_at) VALUES (0, 6, 11, 'ann', 'd', now())")
        .await;
    run(&pool, "INSERT INTO search_due (shard, after_seq, rooms, ids) VALUES (0, 10, '{6,6}', '{11,8}')")
        .await;
    run(&pool, "DELETE FROM search_due").await;
    assert_eq!(
        (writer_id("ann").await, writer_id("bob").await),
        (Some(11), Some(8)),
        "only a message after the stop must be counted again"
    );
}

#[tokio::test]
async fn writers_of_rooms_that_are_not_direct_are_not_kept() {
    let database = Database::shared();
    database.migrate_to(VERSION).await;
    let pool = database.pool().await;
    run(&pool, ROWS).await;
    run(
        &pool,
        "INSERT INTO message (shard, room, id, author, body, created_at)
         VALUES (0, 1, 20, 'ann', 'a', now()), (0, 70, 21, 'bob', 'b', now());
         INSERT INTO search_due (shard, after_seq, rooms, ids) VALUES (0, 19, '{1,70,6,6}', '{20,21,7,9}');
         DELETE FROM search_due",
    )
    .await;
    let rooms: Vec<(i64, i64)> = sqlx::query_as("SELECT room, id FROM room_writer ORDER BY room")
        .fetch_all(&pool)
        .await
        .expect("the query succeeds");
    assert_eq!(
        rooms,
        [(6, 9), (70, 21)],
        "writers must be kept for direct room 6, and for room 70, whose kind is not known yet"
    );
}
