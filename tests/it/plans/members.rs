//! Checks the statements about a room and a team with very many members.

use std::collections::HashMap;

use protocol::{
    id::{ShardCount, TeamId},
    subject::Channel,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size},
    postgres::Postgres,
};

use super::{explain_all, log};

const MEMBERS: u64 = 50_000;
/// The most rows that a statement may read: 1,000 members that are read with a room, and a few more.
const ROWS: f64 = 1_100.0;

/// Inserts the members of a room or a team straight into PostgreSQL, without events in the log.
async fn add_crowd(pool: &PgPool, of: &str, shard: i16, id: u64) {
    let sql = format!(
        "INSERT INTO {of}_member (shard, {of}, user_id, added_by)
         SELECT {shard}, {id}, 'crowd-' || n, 'ann' FROM generate_series(1, {MEMBERS}) AS n"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.expect("the rows are made");
}

async fn send(rest: &Rest, method: Method, path: &str, body: Value) -> StatusCode {
    rest.send(method, path, &body).await.expect("the node answers").0
}

/// Renames a room and removes a member while other members read the room.
async fn change(cluster: &Cluster, room: u64, members: &str) {
    let path = paths::room(room);
    let [ann, one, other, eve] = ["ann", "crowd-7", "crowd-40000", "eve"].map(|user| cluster.rest(0, user));
    for name in ["first", "second"] {
        assert_eq!(send(&ann, Method::PATCH, &path, json!({ "name": name })).await, StatusCode::OK);
        for rest in [&one, &other] {
            let (status, shown) = rest.get(&path).await;
            assert_eq!((status, &shown["name"]), (StatusCode::OK, &json!(name)));
        }
        assert_eq!(eve.get(&path).await.0, StatusCode::NOT_FOUND);
    }
    let mut socket = cluster.socket(0, "crowd-7").await;
    let joined = socket.join_room(room).await;
    assert_eq!(joined.users.map(|users| users.len()), Some(100));
    assert_eq!(joined.users_count, Some(MEMBERS));
    for way in [Method::DELETE, Method::PUT, Method::DELETE] {
        let is_out = way == Method::DELETE;
        let member = format!("{members}/crowd-7");
        assert_eq!(send(&ann, way, &member, Value::Null).await, StatusCode::NO_CONTENT);
        let expected = if is_out { StatusCode::NOT_FOUND } else { StatusCode::OK };
        assert_eq!(one.get(&path).await.0, expected, "crowd-7 is out: {is_out}");
        assert_eq!(other.get(&path).await.0, StatusCode::OK, "other members keep access");
    }
    let mut next = String::new();
    for first in ["crowd-1", "crowd-10041", "crowd-10086"] {
        let page = other.page(&format!("{path}/members?limit=49{next}")).await;
        assert_eq!((page.results.len(), &page.results[0]), (49, &json!(first)));
        next = format!("&cursor={}", page.next.expect("a next page"));
    }
}

#[tokio::test]
async fn change_of_a_room_of_many_members_reads_a_bounded_number_of_rows() {
    let server = Postgres::start();
    let database = server.database();
    let pool = database.pool().await;
    sqlx::raw_sql("ALTER SYSTEM SET log_line_prefix = '%a|'").execute(&pool).await.expect("a setting");
    sqlx::raw_sql("SELECT pg_reload_conf()").execute(&pool).await.expect("the setting is read");
    explain_all(&pool, &database, "auto").await;
    let cluster = Cluster::start_with(Size::default(), database, &[]).await;
    let ann = cluster.rest(0, "ann");
    let private = ann.create_private_room(&[]).await;
    let team = ann.create_team("crew", &[]).await;
    let deck = ann.create_team_room("deck", team).await;
    let team_shard = Channel::Team(TeamId(team)).shard(ShardCount::new(8).expect("8 shards are valid"));
    add_crowd(&pool, "room", cluster.shard_of(private).await.number(), private).await;
    add_crowd(&pool, "team", team_shard.number(), team).await;
    sqlx::raw_sql("ANALYZE").execute(&pool).await.expect("statistics");

    let before = server.log().len();
    change(&cluster, private, &paths::members(private)).await;
    change(&cluster, deck, &paths::team_members(team)).await;

    // The other tables are small here; the other tests of plans check how they are read.
    let statements = log::statements(&server.log()[before..], &[], &HashMap::new());
    let of_api = statements.iter().filter(|((program, _), _)| program == "roomcast-api");
    let mut of_members = 0;
    for ((_, text), statement) in of_api {
        assert!(statement.rows <= ROWS, "{} rows are read by {text}\n{:#}", statement.rows, statement.plan);
        of_members += u32::from(text.contains("_member"));
    }
    assert!(of_members >= 4, "{statements:#?}");
}
