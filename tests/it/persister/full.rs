//! Tests a full log: writes are refused as not stored, and no acknowledged message is lost.

use std::time::Duration;

use reqwest::{Method, header::RETRY_AFTER};
use serde_json::{Value, json};
use service::metric_names::PRESENCE_UNACKNOWLEDGED;
use tests::paths;
use tests::{
    client::Socket,
    cluster::{Cluster, Size},
    eventually,
    native::Push,
    postgres::{Database, Postgres},
};
use tokio::time::{Instant, timeout_at};

use super::{ONE_SHARD, rows, send, shard, state};

#[tokio::test]
async fn full_log_refuses_appends_and_loses_nothing() {
    let mut postgres = Postgres::start();
    let small_log = [ONE_SHARD, ("ROOMCAST_STREAM_BYTES", "1048576")];
    let mut cluster = Cluster::start_with(Size::default(), postgres.database(), &small_log).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = cluster.socket(0, "ann").await;
    socket.join_room(room).await;
    postgres.kill9();
    let long = "x".repeat(8_000);
    let mut sent = Vec::new();
    let refused = loop {
        let text = format!("{} {long}", sent.len());
        let answer = socket.act("create_message", json!({ "msg_text": text })).await;
        if !answer.is_success() {
            break answer;
        }
        sent.push((answer.id(), text));
    };
    assert!(sent.len() > 50, "the log must store about 1 MiB, not only {} messages of 8 kB", sent.len());
    assert_eq!(refused.status, 503, "{refused}");
    assert_eq!(state(&cluster, shard()).await.first, 1, "the log must not drop events to make space");

    postgres.restart();
    assert_eq!(rows(&cluster, room, sent.len()).await, sent, "all acknowledged messages must be in Postgres");
    // Events whose message ids the broker must still know are not trimmed, so the log stays full for a while.
    let path = paths::messages(room);
    let refused = eventually("api is connected to Postgres again", || async {
        let request = ann.request(Method::POST, &path).json(&json!({ "message": long }));
        let answer = request.send().await.ok()?;
        let response = (answer.status().as_u16(), answer.headers().contains_key(RETRY_AFTER));
        let problem: Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
        (problem["code"] != "unavailable").then_some((response, problem))
    });
    let (response, problem) = refused.await;
    assert_eq!((response, &problem["code"]), ((503, true), &Value::from("not_stored")), "{problem}");

    // An operator may enlarge the log at any time.
    cluster.persister[0].terminate();
    cluster.persister[0].set("ROOMCAST_STREAM_BYTES", "2097152");
    cluster.persister[0].restart();
    sent.push((send(&ann, room, &long).await, long));
    assert_eq!(rows(&cluster, room, sent.len()).await, sent);
}

/// Collects a socket's pushes until `until`, answering its pings.
async fn pushes(socket: &mut Socket, until: Instant) -> Vec<Push> {
    let mut pushes = Vec::new();
    while let Ok(push) = timeout_at(until, socket.try_push()).await {
        pushes.push(push.expect("the socket stays open"));
    }
    pushes
}

#[tokio::test]
async fn leave_is_stored_once_a_full_log_has_space() {
    let small_log = [ONE_SHARD, ("ROOMCAST_STREAM_BYTES", "1048576")];
    let mut cluster = Cluster::start_with(Size::default(), Database::shared(), &small_log).await;
    let room = cluster.rest(0, "ann").create_room("general").await;
    let join = json!({ "room_pk": room });
    let mut ann = cluster.socket(0, "ann").await;
    ann.act_ok("join_room", join.clone()).await;
    // The leave is longer than the last messages that fit into the log, so it does not fit.
    let name = "b".repeat(64);
    let mut leaver = cluster.socket(0, &name).await;
    leaver.act_ok("join_room", join.clone()).await;
    while ann.event("participant-join").await.user() != name {}
    cluster.persister[0].kill9();
    for text in ["x".repeat(8_000), "x".to_owned()] {
        let message = json!({ "msg_text": text });
        while ann.act("create_message", message.clone()).await.status == 201 {}
    }
    leaver.act_ok("leave_room", join).await;
    let unacknowledged = format!("{PRESENCE_UNACKNOWLEDGED} 1");
    let is_unacknowledged =
        async || cluster.fanout[0].metrics().await.lines().any(|line| line == unacknowledged);
    eventually("the leave is not acknowledged", || async { is_unacknowledged().await.then_some(()) }).await;
    // Longer than any timeout of a node; there is no event for a node that gives up.
    let end = Instant::now() + Duration::from_secs(70);
    let (received, _) = tokio::join!(pushes(&mut ann, end), pushes(&mut leaver, end));
    assert!(!received.iter().any(|push| push.event == "participant-leave"), "{received:?}");
    assert!(is_unacknowledged().await, "the node must still try to append the leave");

    cluster.persister[0].set("ROOMCAST_STREAM_BYTES", "2097152");
    cluster.persister[0].restart();
    assert_eq!(ann.event("participant-leave").await.user(), name);
    eventually("the leave is acknowledged", || async { (!is_unacknowledged().await).then_some(()) }).await;
}
