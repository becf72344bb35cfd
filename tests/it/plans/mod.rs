//! Checks how many rows the statements of api and the persister read from large tables, as PostgreSQL reports it.
//!
//! What must hold: no statement reads a large table from its beginning to its end, each index is read by its first
//! columns, and the rows read are bounded by what is answered, whether PostgreSQL has statistics of the tables or not,
//! and whether a plan is made for each run or once.
//!
//! `ROOMCAST_TEST_PLANS_ROOMS` makes the deployment larger: 1000000 is the full size, with ten times as many messages.

mod log;
mod members;
mod reads;
mod writes;

use std::collections::BTreeMap;

use protocol::{
    id::{ShardCount, TeamId, UserId},
    subject::Channel,
};
use serde_json::json;
use sqlx::PgPool;
use tests::{
    cluster::{Cluster, Node, Size, sign},
    postgres::{Database, Postgres},
};

use self::log::Statement;

const LARGE: [&str; 13] = [
    "room",
    "room_state",
    "room_member",
    "room_size",
    "room_writer",
    "participant",
    "online",
    "message",
    "message_search",
    "message_key",
    "read_mark",
    "person",
    "team_member",
];

/// The most rows that a statement may read for an answer, whatever the size of the deployment: a page of rooms whose
/// newest messages are looked at, or the 10,000 participants of a room that are counted.
const PAGE_ROWS: f64 = 10_500.0;

/// Statements that read one row for each room of a person or of a contact.
const BY_PERSON: [&str; 3] =
    ["WITH own AS", "SELECT r.id FROM ( (SELECT p.room FROM participant", "SELECT CASE r.pair[1]"];

/// Statements that read a row for each room of a shard that was closed within ten minutes.
const BY_CLOSING: [&str; 1] = ["SELECT s.room FROM room_state s"];

fn rooms() -> u64 {
    std::env::var("ROOMCAST_TEST_PLANS_ROOMS").map_or(40_000, |rooms| rooms.parse().expect("a number"))
}

/// Fills the tables while the persister is stopped. The persister continues after the generated rows.
async fn generate(pool: &PgPool) {
    let shards = ShardCount::new(8).expect("8 shards are valid");
    let ann: UserId = "ann".parse().expect("an id");
    let sql = include_str!("generate.sql")
        .replace("$ROOMS", &rooms().to_string())
        .replace("$MESSAGES", &(rooms() * 10).to_string())
        .replace("$TEAM_SHARD", &Channel::Team(TeamId(1)).shard(shards).number().to_string())
        .replace("$ANN_SHARD", &Channel::User(ann).shard(shards).number().to_string());
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.expect("the rows are made");
}

/// Has PostgreSQL log every plan of new sessions with the rows that it read.
async fn explain_all(pool: &PgPool, database: &Database, plan_cache_mode: &str) {
    for setting in [
        "session_preload_libraries = auto_explain",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_analyze = on",
        "auto_explain.log_timing = off",
        "auto_explain.log_format = json",
        "auto_explain.log_nested_statements = on",
        &format!("plan_cache_mode = {plan_cache_mode}"),
    ] {
        let sql = format!("ALTER DATABASE {} SET {setting}", database.name());
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.expect("a setting");
    }
}

fn stop(nodes: &mut [Node]) {
    for node in nodes {
        node.terminate();
    }
}

/// All faults of the statements. Each line begins with the start of its statement.
fn faults(statements: &BTreeMap<(String, String), Statement>) -> Vec<String> {
    let mut faults = Vec::new();
    for ((program, text), statement) in statements {
        let by_person = BY_PERSON.iter().any(|beginning| text.starts_with(beginning));
        let by_closing = BY_CLOSING.iter().any(|beginning| text.starts_with(beginning));
        let allowed = match (by_person, by_closing) {
            (true, _) => PAGE_ROWS + rooms() as f64 / 10.0,
            // One room in ten is closed, and there are eight shards.
            (_, true) => PAGE_ROWS + rooms() as f64 / 80.0,
            _ => PAGE_ROWS,
        };
        let mut wrong = statement.faults.clone();
        if statement.rows > allowed {
            wrong.push(format!("{} rows are read", statement.rows));
        }
        wrong.sort();
        wrong.dedup();
        if !wrong.is_empty() {
            let plan = if std::env::var("ROOMCAST_TEST_PLANS_SHOW").is_ok() {
                serde_json::to_string_pretty(&statement.plan["Plan"]).expect("JSON")
            } else {
                String::new()
            };
            faults.push(format!("{program}: {wrong:#?}\n  {text}\n{plan}"));
        }
    }
    faults
}

#[expect(clippy::print_stdout, reason = "a table for whoever runs it with --nocapture")]
fn print(title: &str, statements: &BTreeMap<(String, String), Statement>) {
    println!("{title}: runs, most rows, most ms, statement");
    for ((program, text), Statement { runs, rows, milliseconds, .. }) in statements {
        let beginning: String = text.chars().take(120).collect();
        println!("{runs:>6} {rows:>9} {milliseconds:>9.1}  {program}  {beginning}");
    }
}

#[tokio::test]
async fn statements_read_bounded_rows_with_and_without_statistics() {
    let server = Postgres::start();
    let database = server.database();
    let pool = database.pool().await;
    for setting in ["log_line_prefix = '%a|'", "autovacuum = off", "max_wal_size = '8GB'"] {
        let sql = format!("ALTER SYSTEM SET {setting}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.expect("a setting");
    }
    sqlx::raw_sql("SELECT pg_reload_conf()").execute(&pool).await.expect("the setting is read");
    let mut cluster = Cluster::start_with(Size::default(), database.clone(), &[]).await;
    stop(&mut cluster.fanout);
    stop(&mut cluster.api);
    stop(&mut cluster.persister);

    generate(&pool).await;
    let indexes = log::indexes(&pool).await;
    let mut wrong = Vec::new();
    let mut read_before = 0;
    for (has_statistics, plan_cache_mode) in [
        (false, "force_custom_plan"),
        (false, "force_generic_plan"),
        (true, "force_custom_plan"),
        (true, "force_generic_plan"),
    ] {
        let begun = std::time::Instant::now();
        explain_all(&pool, &database, plan_cache_mode).await;
        if has_statistics {
            sqlx::raw_sql("ANALYZE").execute(&pool).await.expect("statistics");
        }
        // The log continues after the generated rows in a new epoch; the other services must start after that.
        cluster.persister[0].restart();
        cluster.wait_until_led().await;
        for node in cluster.api.iter_mut().chain(&mut cluster.fanout) {
            node.restart();
        }
        cluster.wait_until_ready().await;
        let run = format!("{plan_cache_mode}{}", if has_statistics { "" } else { " without statistics" });
        let admin = sign(&json!({ "user_id": "root", "is_admin": true, "org_id": "org" }));
        reads::ask_everything(&cluster, &admin).await;
        writes::write_everything(&cluster, &admin, &pool).await;
        stop(&mut cluster.fanout);
        stop(&mut cluster.api);
        stop(&mut cluster.persister);
        let logged = server.log();
        let statements = log::statements(&logged[read_before..], &LARGE, &indexes);
        read_before = logged.len();
        print(&format!("{run}, {} s", begun.elapsed().as_secs()), &statements);
        for (program, beginning) in reads::ASKED.into_iter().chain(writes::WRITTEN) {
            let is_it = |(by, text): &&(String, String)| by == program && text.starts_with(beginning);
            assert!(statements.keys().any(|key| is_it(&key)), "{run}: {program} has not run {beginning}");
        }
        wrong.extend(faults(&statements).into_iter().map(|fault| format!("{run}: {fault}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
