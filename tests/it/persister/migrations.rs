//! Tests that migrations run while programs of the previous version use the tables.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tests::paths;
use tests::{
    cluster::{Cluster, Size},
    eventually,
    postgres::Database,
};

use super::{ONE_SHARD, start};

/// The schema version of the last release.
const RELEASED: i64 = 2;

/// A room with a member, a team with a member, and a participant.
const ROWS: &str = "
INSERT INTO watermark (shard, seq) VALUES (-1, 0), (0, 0);
INSERT INTO room (shard, id, kind, name, private, team, creator, active, created_at)
VALUES (-1, 1000000, 'private', 'general', true, NULL, 'ann', true, now()),
       (-1, 1000002, 'team', 'crew', true, 1000001, 'ann', true, now());
INSERT INTO team (shard, id, name, creator, created_at) VALUES (-1, 1000001, 'crew', 'ann', now());
INSERT INTO room_member (shard, room, user_id, added_by) VALUES (0, 1000000, 'bob', 'ann');
INSERT INTO team_member (shard, team, user_id, added_by) VALUES (0, 1000001, 'bob', 'ann');
INSERT INTO participant (shard, room, user_id, incarnation, counter, present) VALUES (0, 1000000, 'bob', 1, 1, true)";

/// Statements of an api of schema version 2 that read columns of users: name with types, SQL, and a call.
const STATEMENTS: [(&str, &str, &str); 6] = [
    (
        "facts (int8, int2, int2)",
        "SELECT coalesce(s.name, r.name) AS name, coalesce(s.description, r.description) AS description,
                r.creator, r.created_at,
                CASE WHEN r.kind NOT IN ('public', 'private') THEN r.kind
                     WHEN coalesce(s.private, r.private) THEN 'private' ELSE 'public' END AS kind,
                coalesce(t.creator, r.creator) AS manager,
                s.closed_at IS NOT NULL AS closed,
                r.team, r.detail -> 'support' ->> 'org_id' AS org_id,
                CASE r.kind
                     WHEN 'team' THEN ARRAY(SELECT user_id FROM team_member WHERE shard = $3 AND team = r.team)
                     WHEN 'match' THEN coalesce(r.pair, '{}')
                     WHEN 'direct' THEN coalesce(r.pair, '{}')
                     ELSE ARRAY(SELECT user_id FROM room_member WHERE shard = $2 AND room = $1) END AS members,
                greatest((SELECT max(id) FROM message WHERE shard = $2 AND room = $1),
                         (SELECT max(changed) FROM message WHERE shard = $2 AND room = $1 AND changed IS NOT NULL),
                         s.changed, 0) AS last_event,
                (SELECT seq FROM watermark WHERE shard = $2) AS as_of,
                coalesce((SELECT seq FROM watermark WHERE shard = $3), 0) AS team_as_of
         FROM room r
         LEFT JOIN room_state s ON s.shard = $2 AND s.room = r.id
         LEFT JOIN team t ON t.shard = -1 AND t.id = r.team
         WHERE r.shard = -1 AND r.id = $1",
        "facts (1000000, 0, 0)",
    ),
    (
        "participants (int2, int8)",
        "SELECT w.seq AS as_of, p.user_id, p.incarnation, p.counter FROM watermark w
         LEFT JOIN participant p ON p.shard = w.shard AND p.room = $2 AND p.present
         WHERE w.shard = $1",
        "participants (0, 1000000)",
    ),
    (
        "present (int8, int8)",
        "SELECT DISTINCT user_id FROM participant WHERE shard = $1 % $2 AND room = $1 AND present
         ORDER BY user_id",
        "present (1000000, 1)",
    ),
    (
        "room (int8, int8)",
        "SELECT ARRAY(SELECT m.user_id FROM room_member m
                      WHERE m.shard = r.id % $2 AND m.room = r.id ORDER BY m.user_id) AS users,
                here.present, coalesce(here.participants, '{}') AS participants
         FROM room r
         CROSS JOIN LATERAL (SELECT count(*) AS present,
                                    (array_agg(p.user_id ORDER BY p.user_id))[1:1000] AS participants
                             FROM (SELECT DISTINCT p.user_id FROM participant p
                                   WHERE p.shard = r.id % $2 AND p.room = r.id AND p.present) p) here
         WHERE r.shard = -1 AND r.id = $1",
        "room (1000000, 1)",
    ),
    (
        "team (int8, int2)",
        "SELECT id, name, creator, created_at,
                ARRAY(SELECT user_id FROM team_member WHERE shard = $2 AND team = $1 ORDER BY user_id) AS users,
                (SELECT seq FROM watermark WHERE shard = $2) AS as_of
         FROM team WHERE shard = -1 AND id = $1",
        "team (1000001, 0)",
    ),
    (
        "team_members (int2[], int8[])",
        "SELECT team, user_id FROM team_member
         WHERE (shard, team) IN (SELECT * FROM unnest($1::int2[], $2::int8[])) ORDER BY team, user_id",
        "team_members ('{0}', '{1000001}')",
    ),
];

/// Opens a session with the prepared statements of an older api.
async fn older_api(database: &Database) -> PgConnection {
    let mut session = PgConnection::connect(&database.url("roomcast_api")).await.expect("the session opens");
    sqlx::raw_sql("SET statement_timeout = '4s'").execute(&mut session).await.expect("the timeout is set");
    for (name, sql, _) in STATEMENTS {
        let prepare = sqlx::AssertSqlSafe(format!("PREPARE {name} AS {sql}"));
        sqlx::raw_sql(prepare).execute(&mut session).await.expect("the statement is prepared");
    }
    session
}

/// Runs the statements of an older api.
async fn read_all(session: &mut PgConnection) {
    for (_, _, run) in STATEMENTS {
        let execute = sqlx::AssertSqlSafe(format!("EXECUTE {run}"));
        let rows = sqlx::raw_sql(execute).fetch_all(&mut *session).await;
        assert_eq!(rows.unwrap_or_else(|error| panic!("{run}: {error}")).len(), 1, "{run}");
    }
}

#[tokio::test]
async fn older_api_reads_on_while_a_dump_holds_the_migrations_up_and_after_them() {
    let database = Database::shared();
    database.migrate_to(RELEASED).await;
    let pool = database.pool().await;
    sqlx::raw_sql(ROWS).execute(&pool).await.expect("the query succeeds");
    let mut api = older_api(&database).await;
    read_all(&mut api).await;

    let mut dump = pool.begin().await.expect("the transaction begins");
    sqlx::raw_sql("LOCK TABLE participant IN ACCESS SHARE MODE")
        .execute(&mut *dump)
        .await
        .expect("the table is locked");
    let starting = tokio::spawn(Cluster::start_with(Size::default(), database.clone(), &[ONE_SHARD]));
    for is_waiting in [true, false, true] {
        eventually("a migration waits for its lock, and gives up in between", || async {
            let sql = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'
                                      AND database = (SELECT oid FROM pg_database
                                                      WHERE datname = current_database()))";
            let found: bool = sqlx::query_scalar(sql).fetch_one(&pool).await.ok()?;
            (found == is_waiting).then_some(())
        })
        .await;
        read_all(&mut api).await;
    }
    dump.rollback().await.expect("the lock is released");
    let cluster = starting.await.expect("the cluster starts");
    read_all(&mut api).await;
    let log_text = cluster.persister[0].tail();
    assert!(log_text.contains("a migration waits for a lock"), "{log_text}");
}

/// Records the planner's settings at each statement that changes tables.
const NOTE_SETTINGS: &str = "
CREATE TABLE noted (name text, setting text, boot_val text);
GRANT INSERT ON noted TO PUBLIC;
CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO noted SELECT name, setting, boot_val FROM pg_settings
    WHERE name LIKE 'enable\\_%' OR name IN ('join_collapse_limit', 'from_collapse_limit', 'jit');
END
$$;
CREATE EVENT TRIGGER note ON ddl_command_start EXECUTE FUNCTION note()";

#[tokio::test]
async fn migrations_are_planned_by_the_defaults_of_postgres() {
    let database = Database::shared();
    database.migrate_to(RELEASED).await;
    let pool = database.pool().await;
    sqlx::raw_sql(NOTE_SETTINGS).execute(&pool).await.expect("the event trigger is created");
    let _cluster = Cluster::start_with(Size::default(), database.clone(), &[ONE_SHARD]).await;
    let recorded: i64 =
        sqlx::query_scalar("SELECT count(*) FROM noted").fetch_one(&pool).await.expect("the query succeeds");
    assert!(recorded > 0, "migrations must have run");
    let changed: Vec<(String, String)> =
        sqlx::query_as("SELECT DISTINCT name, setting FROM noted WHERE setting <> boot_val ORDER BY name")
            .fetch_all(&pool)
            .await
            .expect("the query succeeds");
    assert_eq!(changed, [], "migrations read whole tables, so the planner must have its default settings");
}

#[tokio::test]
async fn api_reads_on_after_the_type_of_a_column_it_reads_has_changed() {
    let cluster = start().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let path = paths::room(room);
    let read = || async {
        let (status, _) = ann.get(&path).await;
        (status == 200).then_some(())
    };
    // Prepares the statement on several connections.
    eventually("20 concurrent reads of the room succeed", || async {
        let all = futures_util::future::join_all((0..20).map(|_| read())).await;
        all.into_iter().collect::<Option<Vec<()>>>()
    })
    .await;
    // A change by an operator, or by a later version.
    let change = "ALTER TABLE participant ALTER user_id TYPE text COLLATE \"C\";
                  ALTER TABLE room_member ALTER user_id TYPE text COLLATE \"C\"";
    sqlx::raw_sql(change).execute(&cluster.database.pool().await).await.expect("the columns are changed");
    let mut failures = 0;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while read().await.is_none() {
        failures += 1;
        assert!(tokio::time::Instant::now() < deadline, "a read must succeed again");
    }
    assert!(failures <= 4, "{failures} reads failed in a row");
    let all = futures_util::future::join_all((0..20).map(|_| read())).await;
    assert!(all.iter().all(Option::is_some), "no connection with an outdated statement may be in use");
}
