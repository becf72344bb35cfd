//! Checks lists of match rooms that are cut before the last room.

use serde_json::{Value, json};
use tests::cluster::{Cluster, Size};

use super::{Match, one};

/// Number of match rooms of the first brand.
const ROOMS: u64 = 1_003;
/// Most rooms in one list.
const LISTED: usize = 1_000;
/// Id of the oldest room.
const FIRST: u64 = 10_001;

/// The `pk`s of the rooms in an answer, and the last room's `more`, if any.
fn listed(answer: &Value) -> (Vec<u64>, Option<bool>) {
    let rooms = answer["data"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let (last, others) = rooms.split_last().expect("there is one");
    assert!(
        others.iter().all(|room| room.get("more").is_none()),
        "only the last room of a page has the field"
    );
    (rooms.iter().filter_map(|room| room["pk"].as_u64()).collect(), last.get("more").and_then(Value::as_bool))
}

#[tokio::test]
async fn match_list_says_that_there_is_more_and_continues() {
    let cluster = Cluster::start(Size::default()).await;
    let made = format!(
        "INSERT INTO room (shard, id, kind, name, private, creator, active, created_at, pair, key, generation)
         SELECT -1, {FIRST} + n, 'match', 'a room', true, '9', true, now(), ARRAY['1', 'other-' || n],
                'match ' || n, 0
         FROM generate_series(0, {ROOMS} - 1) AS n"
    );
    let pool = cluster.database.pool().await;
    sqlx::query(sqlx::AssertSqlSafe(made)).execute(&pool).await.expect("rooms");
    let newest_first: Vec<u64> = (FIRST..FIRST + ROOMS).rev().collect();
    let admin = json!({ "user_id": 9, "is_admin": true });
    for (path, claims) in [("/ws/chat/", one()), ("/ws/admin-chat/", admin)] {
        let mut socket = Match::open_at(&cluster, 0, path, &claims).await;
        let mut list = async |fields: Value| {
            let mut frame = json!({ "action": "list", "request_id": 1 });
            for (name, value) in fields.as_object().expect("an object") {
                frame[name] = value.clone();
            }
            listed(&socket.ask(frame).await)
        };
        let (rooms, more) = list(json!({})).await;
        assert_eq!((rooms.as_slice(), more), (&newest_first[..LISTED], Some(true)), "{path}");
        let last = rooms[LISTED - 1];
        assert_eq!(list(json!({ "before": last })).await, (newest_first[LISTED..].to_vec(), None));
        let two = list(json!({ "before": last, "limit": 2 })).await;
        assert_eq!(two, (newest_first[LISTED..LISTED + 2].to_vec(), Some(true)));
        let one = list(json!({ "before": two.0[1], "limit": 2 })).await;
        assert_eq!(one, (newest_first[LISTED + 2..].to_vec(), None));
    }
}
