//! Tests that the rights an api node keeps in memory are never older than the events it has received.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::paths;
use tests::{
    cluster::{Cluster, Size},
    eventually,
    native::{MessageView, Page},
    postgres::Postgres,
};

use super::{NOT_FOUND, refusal};

#[tokio::test]
async fn removal_reaches_the_cache_of_another_node() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(1, "bob"));
    let room = ann.create_private_room(&["bob"]).await;
    let path = paths::room(room);
    for _ in 0..3 {
        assert_eq!(bob.get(&path).await.0, StatusCode::OK);
        assert_eq!(ann.delete(&format!("{path}/members/bob")).await.0, StatusCode::NO_CONTENT);
        eventually("bob is removed", || async { (bob.get(&path).await.0 == 404).then_some(()) }).await;
        assert_eq!(ann.put(&format!("{path}/members/bob"), Value::Null).await.0, StatusCode::NO_CONTENT);
    }
    let metrics = cluster.api[1].metrics().await;
    assert!(metrics.contains(r#"roomcast_rights_total{outcome="miss"}"#), "{metrics}");
}

#[tokio::test]
async fn rows_that_lack_a_removal_grant_nothing() {
    let mut cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(1, "bob"));
    let room = ann.create_private_room(&["bob"]).await;
    let path = paths::room(room);
    let other = paths::room(ann.create_private_room(&[]).await);
    let lags = (503, "unavailable", "The check of your rights is not available now. Try again.");
    assert_eq!(bob.get(&path).await.0, StatusCode::OK);
    cluster.persister[0].kill9();
    let removed = ann.delete(&format!("{path}/members/bob")).await;
    assert_eq!(removed, (StatusCode::ACCEPTED, json!({ "applied": false })));
    eventually("the node has received the removal", || async {
        (refusal(&bob.get(&path).await) == lags).then_some(())
    })
    .await;
    // A node that was down during the removal reads the end of the log.
    cluster.api[1].kill9();
    cluster.api[1].restart();
    cluster.api[1].wait_until_ready().await;
    assert_eq!(refusal(&bob.get(&path).await), lags);

    let behind = "The database is behind: nothing can be changed now. Try again.";
    eventually("changes are refused", || async {
        let answer = ann.patch(&other, json!({ "name": "late" })).await;
        (refusal(&answer) == (503, "unavailable", behind)).then_some(())
    })
    .await;
    cluster.persister[0].restart();
    eventually("bob is removed", || async { (refusal(&bob.get(&path).await) == NOT_FOUND).then_some(()) })
        .await;
}

#[tokio::test]
async fn member_added_to_a_room_postgres_lacks_gets_503_not_404() {
    let mut cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(1, "bob"));
    cluster.persister[0].pause();
    let room = ann.create_private_room(&[]).await;
    let path = paths::room(room);
    let added = ann.put(&format!("{path}/members/bob"), Value::Null).await;
    assert_eq!(added, (StatusCode::ACCEPTED, json!({ "applied": false })));
    let lags = (503, "unavailable", "The check of your rights is not available now. Try again.");
    eventually("the node has received the addition", || async {
        let answer = bob.get(&path).await;
        (refusal(&answer) == lags).then_some(())
    })
    .await;
    assert_eq!(ann.get(&path).await.0, StatusCode::OK, "the creator keeps access to the new room");
    cluster.persister[0].resume();
    eventually("bob is in the room", || async { (bob.get(&path).await.0 == StatusCode::OK).then_some(()) })
        .await;
}

#[tokio::test]
async fn cached_yes_holds_and_a_no_is_unknown_while_postgres_is_down() {
    let mut postgres = Postgres::start();
    let cluster = Cluster::start_with(Size::default(), postgres.database(), &[]).await;
    let room = cluster.rest(0, "ann").create_private_room(&["bob"]).await;
    let channel = json!({ "channel": format!("room-{room}") });
    cluster.socket(0, "bob").await.act_ok("subscribe", channel.clone()).await;
    postgres.kill9();
    let mut socket = cluster.socket(0, "bob").await;
    socket.act_ok("subscribe", channel.clone()).await;
    let joined = socket.join_room(room).await;
    assert_eq!((joined.id, &*joined.name), (room, "board"));
    assert_eq!(joined.participants, Some(vec![]), "the node knows the participants without Postgres");
    let mut stranger = cluster.socket(0, "eve").await;
    let answer = stranger.act("subscribe", channel.clone()).await;
    assert_eq!(answer.status, 503, "{answer}");
    postgres.restart();
    eventually("the stranger gets 404", || async {
        let mut stranger = cluster.socket(0, "eve").await;
        let answer = stranger.act("subscribe", channel.clone()).await;
        (answer.status == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn room_that_postgres_lacks_is_read_from_the_log() {
    let mut cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    ann.create_room("first").await;
    cluster.persister[0].kill9();
    let body = json!({ "name": "board", "private": true, "users": ["bob"] });
    let (status, room) = ann.post(paths::ROOMS, body).await;
    assert_eq!((status, &room["applied"]), (StatusCode::CREATED, &json!(false)), "{room}");
    let messages = paths::messages(&room["id"]);
    let (status, message) = bob.post(&messages, json!({ "message": "early" })).await;
    assert_eq!(status, StatusCode::CREATED, "{message}");
    cluster.persister[0].restart();
    eventually("Postgres has all events", || async {
        let page: Page<MessageView> = bob.try_read(&messages).await?;
        (page.results.first()?.message == "early").then_some(())
    })
    .await;
}
