//! Pauses an api node in the middle of writes, beyond their deadline: once resumed, it must store nothing.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::native;
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, ProxiedConnection, Size, sign},
    eventually,
};

/// Longer than the deadline of a request's last append.
const PAUSE: Duration = Duration::from_secs(6);

#[tokio::test]
async fn write_paused_beyond_its_deadline_stores_nothing() {
    let size = Size { api: 2, ..Size::default() };
    let mut cluster = Cluster::start_with_proxies(size, ProxiedConnection::Database("api")).await;
    let (paused, ann) = (cluster.rest(0, "ann"), cluster.rest(1, "ann"));
    // The first node has nothing of these in its caches, so each write begins with a query.
    let room = ann.create(paths::ROOMS, json!({ "name": "r", "private": true, "users": ["bob"] })).await;
    let ids = ann.send_messages(room, 3).await;
    let team = ann.create_team("crew", &[]).await;
    let (_, direct_room) = ann.post("/room/add", json!({ "owner": "ann", "abonent": "bob" })).await;
    let (status, history) = ann.get(&paths::messages(room)).await;
    assert_eq!(status, 200, "{history}");
    let path = paths::room(room);
    let direct_room = native::id(&direct_room);
    let writes = [
        (Method::POST, paths::messages(room), json!({ "message": "late" })),
        (Method::PATCH, paths::message(room, ids[0]), json!({ "message": "late" })),
        (Method::DELETE, paths::message(room, ids[1]), Value::Null),
        (Method::PUT, paths::read_mark(room), json!({ "message_id": ids[2] })),
        (Method::POST, paths::invitations(room), json!({ "user": "cid" })),
        (Method::PUT, paths::member(room, "cid"), Value::Null),
        (Method::DELETE, paths::member(room, "bob"), Value::Null),
        (Method::PATCH, path.clone(), json!({ "name": "late" })),
        (Method::DELETE, path.clone(), Value::Null),
        (Method::PUT, paths::team_member(team, "cid"), Value::Null),
        (Method::POST, "/room/list".to_owned(), json!({ "room_id": direct_room, "message": "late" })),
        (Method::GET, format!("/room/select/{direct_room}"), Value::Null),
        (Method::GET, format!("/room/stop/{direct_room}"), Value::Null),
    ];
    let before = cluster.event_count().await;
    let proxy = cluster.api[0].proxy();
    proxy.stall();
    let requests: Vec<_> = writes
        .iter()
        .cloned()
        .map(|(method, path, body)| {
            let rest = paused.clone();
            tokio::spawn(async move { rest.send(method, &path, &body).await })
        })
        .collect();
    // A request whose token has a profile appends it, so it is a write too.
    let with_profile = Rest::new(
        &cluster.api[0].address(),
        &sign(&json!({ "user_id": "dan", "username": "Dan", "iat": 1_700_000_000 })),
    );
    let profile_write = tokio::spawn(async move { with_profile.get(paths::TEAMS).await });
    // All writes except that to the team look the access to a room up.
    let misses = writes.len() - 1;
    eventually("each write waits for Postgres", || async {
        let metrics = cluster.api[0].metrics().await;
        let line = metrics.lines().find(|line| line.starts_with(r#"roomcast_rights_total{outcome="miss"}"#));
        let count: usize = line.and_then(|line| line.rsplit(' ').next())?.parse().ok()?;
        (count >= misses).then_some(())
    })
    .await;
    cluster.api[0].pause();
    cluster.api[0].proxy().restore();
    tokio::time::sleep(PAUSE).await;
    cluster.api[0].resume();
    for (request, (method, path, _)) in requests.into_iter().zip(&writes) {
        let (status, answer) = request.await.expect("the request does not panic").expect("the node answers");
        assert_eq!(status, 503, "{method} {path}: {answer}");
        assert_ne!(
            answer["code"], "outcome_unknown",
            "{method} {path}: nothing was appended, so the outcome must be known"
        );
    }
    let _answered = profile_write.await.expect("the request does not panic");
    assert_eq!(cluster.event_count().await, before, "no event may be stored after its deadline");
    let (_, page) = ann.get(&paths::messages(room)).await;
    assert_eq!(page, history);
}
