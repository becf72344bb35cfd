//! Stops an api node in the middle of a write, for longer than the write may take: once it goes on, it stores nothing.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, ProxiedConnection, Size, sign},
    eventually,
};

/// Longer than a request may take until its last append.
const PAUSE: Duration = Duration::from_secs(6);

#[tokio::test]
async fn write_paused_beyond_its_deadline_stores_nothing() {
    let size = Size { api: 2, ..Size::default() };
    let cluster = Cluster::start_with_proxies(size, ProxiedConnection::Database("api")).await;
    let (paused, ann) = (cluster.rest(0, "ann"), cluster.rest(1, "ann"));
    // Of what is made here the first node has looked at nothing: each write begins with a question to Postgres.
    let (_, room) = ann.post(paths::ROOMS, json!({ "name": "r", "private": true, "users": ["bob"] })).await;
    let room = room["id"].as_u64().expect("an id");
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(ann.send_message(room, &n.to_string()).await);
    }
    let (_, team) = ann.post("/api/v1/teams", json!({ "name": "crew" })).await;
    let (_, pair) = ann.post("/room/add", json!({ "owner": "ann", "abonent": "bob" })).await;
    let (status, history) = ann.get(&paths::messages(room)).await;
    assert_eq!(status, 200, "{history}");
    let path = paths::room(room);
    let pair = pair["id"].as_u64().expect("an id");
    let writes = [
        (Method::POST, format!("{path}/messages"), json!({ "message": "late" })),
        (Method::PATCH, format!("{path}/messages/{}", ids[0]), json!({ "message": "late" })),
        (Method::DELETE, format!("{path}/messages/{}", ids[1]), Value::Null),
        (Method::PUT, format!("{path}/read"), json!({ "message_id": ids[2] })),
        (Method::POST, format!("{path}/invitations"), json!({ "user": "cid" })),
        (Method::PUT, format!("{path}/members/cid"), Value::Null),
        (Method::DELETE, format!("{path}/members/bob"), Value::Null),
        (Method::PATCH, path.clone(), json!({ "name": "late" })),
        (Method::DELETE, path.clone(), Value::Null),
        (Method::PUT, format!("/api/v1/teams/{}/members/cid", team["id"]), Value::Null),
        (Method::POST, "/room/list".to_owned(), json!({ "room_id": pair, "message": "late" })),
        (Method::GET, format!("/room/select/{pair}"), Value::Null),
        (Method::GET, format!("/room/stop/{pair}"), Value::Null),
    ];
    let before = cluster.event_count().await;
    let link = cluster.api[0].proxy();
    link.stall();
    let asked: Vec<_> = writes
        .iter()
        .cloned()
        .map(|(method, path, body)| {
            let rest = paused.clone();
            tokio::spawn(async move { rest.send(method, &path, &body).await })
        })
        .collect();
    // A token that describes its person is a write too.
    let described = Rest::new(
        &cluster.api[0].address(),
        &sign(&json!({ "user_id": "dan", "username": "Dan", "iat": 1_700_000_000 })),
    );
    let learned = tokio::spawn(async move { described.get("/api/v1/teams").await });
    // All but the team's and the person's ask for the room.
    let misses = writes.len() - 1;
    eventually("each write asks Postgres", || async {
        let metrics = cluster.api[0].metrics().await;
        let line = metrics.lines().find(|line| line.starts_with(r#"roomcast_rights_total{outcome="miss"}"#));
        let count: usize = line.and_then(|line| line.rsplit(' ').next())?.parse().ok()?;
        (count >= misses).then_some(())
    })
    .await;
    cluster.api[0].pause();
    link.restore();
    tokio::time::sleep(PAUSE).await;
    cluster.api[0].resume();
    for (asked, (method, path, _)) in asked.into_iter().zip(&writes) {
        let (status, answer) = asked.await.expect("no panic").expect("the node answers");
        assert_eq!(status, 503, "{method} {path}: {answer}");
        assert_ne!(answer["code"], "outcome_unknown", "{method} {path}: nothing was tried");
    }
    let _answered = learned.await.expect("no panic");
    assert_eq!(cluster.event_count().await, before, "nothing old was stored");
    let (_, page) = ann.get(&format!("{path}/messages")).await;
    assert_eq!(page, history);
}
