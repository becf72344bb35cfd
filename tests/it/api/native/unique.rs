//! Tests that a pair has one match room, however many requests make it at once.

use std::collections::BTreeSet;

use protocol::id::Shard;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use service::nats::{self, BrokerUser};
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size},
    eventually,
};
use tokio::task::JoinSet;

use super::{FORBIDDEN, admin, refusal};

const AT_ONCE: usize = 50;

async fn pair(rest: &Rest, users: [&str; 2]) -> (StatusCode, Value) {
    rest.post(paths::ROOMS, json!({ "kind": "match", "users": users })).await
}

/// Sends fifty concurrent requests to two nodes; returns the one room's id and the number of answers 201.
async fn create_at_once(cluster: &Cluster) -> (u64, usize) {
    let mut requests = JoinSet::new();
    for n in 0..AT_ONCE {
        let admin = admin(cluster, n % 2);
        let users = if n % 3 == 0 { ["ann", "bob"] } else { ["bob", "ann"] };
        requests.spawn(async move { pair(&admin, users).await });
    }
    let (mut ids, mut new) = (BTreeSet::new(), 0);
    for (status, room) in requests.join_all().await {
        assert!(status == StatusCode::CREATED || status == StatusCode::OK, "{status} {room}");
        new += usize::from(status == StatusCode::CREATED);
        assert_eq!((&room["kind"], &room["users"]), (&json!("match"), &json!(["ann", "bob"])));
        ids.insert(tests::native::id(&room));
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    (ids.pop_first().expect("one"), new)
}

/// Rows of the pair's rooms: id and generation.
async fn rows(cluster: &Cluster) -> Vec<(i64, i32)> {
    sqlx::query_as("SELECT id, generation FROM room WHERE kind = 'match' ORDER BY generation")
        .fetch_all(&cluster.database.pool().await)
        .await
        .expect("rows")
}

/// Trims the creations of rooms from the log, as the persister does with old events.
async fn trim_creations(cluster: &Cluster) {
    let args = cluster.nats.args(BrokerUser::Persister);
    let jetstream = nats::connect_once(&args, BrokerUser::Persister).await.expect("the broker").jetstream();
    let last = log::state(&jetstream, Shard::SYSTEM).await.expect("the log").last;
    log::purge_below(&jetstream, Shard::SYSTEM, last + 1).await.expect("the stream is purged");
}

#[tokio::test]
async fn match_room_has_two_people_and_is_made_by_admins() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob, eve) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"), cluster.rest(0, "eve"));
    assert_eq!(refusal(&pair(&ann, ["ann", "bob"]).await), FORBIDDEN);
    let admin = admin(&cluster, 0);
    let two = (400, "bad_request", "users: must name two people.");
    assert_eq!(refusal(&pair(&admin, ["ann", "ann"]).await), two);
    let three = json!({ "kind": "match", "users": ["ann", "bob", "eve"] });
    assert_eq!(refusal(&admin.post(paths::ROOMS, three).await), two);
    let (status, problem) = admin.post(paths::ROOMS, json!({ "kind": "public", "name": "x" })).await;
    assert_eq!((status.as_u16(), &problem["code"]), (400, &json!("bad_request")), "{problem}");
    let nameless = admin.post(paths::ROOMS, json!({ "private": true })).await;
    assert_eq!(refusal(&nameless), (400, "bad_request", "name: must not be blank."));

    let (status, room) = pair(&admin, ["bob", "ann"]).await;
    assert_eq!(status, StatusCode::CREATED, "{room}");
    assert_eq!((&room["name"], &room["private"]), (&json!("ann, bob"), &json!(true)));
    assert_eq!(room.get("applied"), None);
    let (status, found) = pair(&admin, ["ann", "bob"]).await;
    assert_eq!((status, &found), (StatusCode::OK, &room));
    let path = paths::room(&room["id"]);
    for rest in [&ann, &bob] {
        assert_eq!(rest.get(&path).await.1["id"], room["id"]);
        let sent = rest.post(&format!("{path}/messages"), json!({ "message": "hi" })).await;
        assert_eq!(sent.0, StatusCode::CREATED);
        assert_eq!(refusal(&rest.delete(&path).await), FORBIDDEN);
    }
    assert_eq!(eve.get(&path).await.0, StatusCode::NOT_FOUND);
    let (_, other) = pair(&admin, ["ann", "eve"]).await;
    assert_ne!(other["id"], room["id"], "another pair has another room");
}

#[tokio::test]
async fn match_room_creation_is_unique_under_concurrent_requests() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (room, new) = create_at_once(&cluster).await;
    assert_eq!(new, 1, "exactly one request is answered 201");
    assert_eq!(rows(&cluster).await, [(i64::try_from(room).expect("an id"), 0)]);
}

#[tokio::test]
async fn match_room_creation_is_unique_while_the_persister_is_down() {
    let mut cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    cluster.rest(0, "ann").create_room("first").await;
    cluster.persister[0].kill9();
    let (room, new) = create_at_once(&cluster).await;
    assert_eq!(new, 1);
    cluster.persister[0].restart();
    let made = vec![(i64::try_from(room).expect("an id"), 0)];
    eventually("the room is in Postgres", || async { (rows(&cluster).await == made).then_some(()) }).await;
    eventually("changes are possible again", || async {
        let (status, found) = pair(&admin(&cluster, 1), ["ann", "bob"]).await;
        (status == StatusCode::OK && found["id"] == room && found.get("applied").is_none()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn match_room_is_found_after_its_creation_left_the_log() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (_, room) = pair(&admin(&cluster, 0), ["ann", "bob"]).await;
    trim_creations(&cluster).await;
    assert_eq!(pair(&admin(&cluster, 1), ["ann", "bob"]).await, (StatusCode::OK, room.clone()));
    let closed = admin(&cluster, 0).delete(&paths::room(&room["id"])).await;
    assert_eq!(closed.0, StatusCode::NO_CONTENT);
    let (next, new) = create_at_once(&cluster).await;
    assert_eq!(new, 1);
    let id = |room: &Value| room.as_i64().expect("an id");
    assert_eq!(rows(&cluster).await, [(id(&room["id"]), 0), (id(&json!(next)), 1)]);
}

#[tokio::test]
async fn closed_match_room_is_followed_by_another() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let mut rooms = Vec::new();
    for generation in 0..3 {
        let (room, new) = create_at_once(&cluster).await;
        assert_eq!(new, 1, "generation {generation}");
        rooms.push((i64::try_from(room).expect("an id"), generation));
        // Once the close is acknowledged, the other node knows it too.
        let closed = admin(&cluster, 1).delete(&paths::room(room)).await;
        assert_eq!(closed.0, StatusCode::NO_CONTENT);
    }
    assert_eq!(rows(&cluster).await, rooms);
    assert_eq!(rooms.iter().map(|(id, _)| id).collect::<BTreeSet<_>>().len(), 3);
}

#[tokio::test]
async fn match_room_creation_with_a_repeated_key_is_answered_alike() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let make = async |n: usize, body: Value| {
        let request = admin(&cluster, n).request(Method::POST, paths::ROOMS).header("idempotency-key", "k-1");
        let answer = request.json(&body).send().await.expect("the node answers");
        (answer.status(), answer.json::<Value>().await.expect("JSON"))
    };
    let body = |users: [&str; 2]| json!({ "kind": "match", "users": users });
    let first = make(0, body(["ann", "bob"])).await;
    assert_eq!(first.0, StatusCode::CREATED, "{first:?}");
    assert_eq!(make(1, body(["bob", "ann"])).await, first, "the repeat is answered 201 again");
    assert_eq!(
        pair(&admin(&cluster, 1), ["ann", "bob"]).await.0,
        StatusCode::OK,
        "a request without the key finds the room"
    );
    let reused = (422, "key_reused", "This Idempotency-Key was used before, for something else.");
    assert_eq!(refusal(&make(1, body(["ann", "eve"])).await), reused);
    assert_eq!(refusal(&make(0, json!({ "name": "board" })).await), reused);
    let named = json!({ "kind": "match", "users": ["ann", "bob"], "name": "another" });
    assert_eq!(refusal(&make(0, named).await), reused);
    assert_eq!(rows(&cluster).await.len(), 1);
}
