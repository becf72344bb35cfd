//! A full log: what is refused is said, and nothing that was acknowledged is lost.

use reqwest::{Method, header::RETRY_AFTER};
use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, Size},
    eventually,
    postgres::Postgres,
};

use super::{ONE_SHARD, rows, say, shard, state};

#[tokio::test]
async fn a_log_full_of_what_postgres_has_not_got_refuses_and_loses_nothing() {
    let mut postgres = Postgres::start();
    let small = [ONE_SHARD, ("ROOMCAST_STREAM_BYTES", "1048576")];
    let mut cluster = Cluster::start_with(Size::default(), postgres.database(), &small).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.make_room("general").await;
    let mut socket = cluster.socket(0, "ann").await;
    socket.must("join_room", json!({ "room_pk": room })).await;
    postgres.kill9();
    let long = "x".repeat(8_000);
    let mut sent = Vec::new();
    let refused = loop {
        let text = format!("{} {long}", sent.len());
        let answer = socket.act("create_message", json!({ "msg_text": text })).await.expect("open");
        match answer["data"]["id"].as_u64() {
            Some(id) => sent.push((id, text)),
            None => break answer,
        }
    };
    assert!(sent.len() > 50, "{} messages of 8 kB are no MiB", sent.len());
    assert_eq!(refused["response_status"], 503, "{refused}");
    assert_eq!(state(&cluster, shard()).await.first, 1, "nothing was dropped to make room");

    postgres.restart();
    assert_eq!(rows(&cluster, room, sent.len()).await, sent, "all that was acknowledged has landed");
    // What is so young that its message id must still be known stays: the log is full for a while yet.
    let path = format!("/api/v1/rooms/{room}/messages");
    let refused = eventually("api has its database back", || async {
        let request = ann.request(Method::POST, &path).json(&json!({ "message": long }));
        let answer = request.send().await.ok()?;
        let told = (answer.status().as_u16(), answer.headers().contains_key(RETRY_AFTER));
        let problem: Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
        (problem["code"] != "unavailable").then_some((told, problem))
    });
    let (told, problem) = refused.await;
    assert_eq!((told, &problem["code"]), ((503, true), &Value::from("not_stored")), "{problem}");

    // Room is made by whoever runs it, at any time.
    cluster.persister[0].terminate();
    cluster.persister[0].set("ROOMCAST_STREAM_BYTES", "2097152");
    cluster.persister[0].restart();
    sent.push((say(&ann, room, &long).await, long));
    assert_eq!(rows(&cluster, room, sent.len()).await, sent);
}
