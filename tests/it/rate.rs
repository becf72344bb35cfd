//! Limits on how often somebody may ask: off unless set, counted by person and by address.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{
    client::Socket,
    cluster::{Cluster, Size, token},
    eventually,
    postgres::Database,
};

async fn started(more: &[(&'static str, &str)]) -> Cluster {
    Cluster::start_with(Size::default(), Database::shared(), more).await
}

#[tokio::test]
async fn a_person_writes_so_often_and_others_are_not_touched() {
    let cluster = started(&[("ROOMCAST_RATE_WRITES", "1:3")]).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let room = ann.make_room("general").await;
    let messages = format!("/api/v1/rooms/{room}/messages");
    let send = || ann.request(Method::POST, &messages).json(&json!({ "message": "hi" })).send();
    let refused = loop {
        let answer = send().await.expect("an answer");
        if answer.status() != StatusCode::CREATED {
            break answer;
        }
    };
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    let problem: Value = refused.json().await.expect("JSON");
    let expected = json!({
        "type": "about:blank", "title": "Too Many Requests", "status": 429, "code": "rate_limited",
        "detail": "That is too often. Try again in 1 s.",
    });
    assert_eq!(problem, expected);
    assert_eq!(ann.get(&messages).await.0, StatusCode::OK, "reads are not counted");
    bob.say(room, "hello").await;

    // A person's sockets are counted with their requests.
    let mut socket = cluster.socket(0, "ann").await;
    socket.must("join_room", json!({ "room_pk": room })).await;
    let answer = loop {
        let answer = socket.act("create_message", json!({ "msg_text": "hi" })).await.expect("open");
        if answer["response_status"] != 201 {
            break answer;
        }
    };
    let errors = json!(["That is too often. Try again in 1 s."]);
    assert_eq!((&answer["response_status"], &answer["errors"]), (&json!(429), &errors));
    socket.must("history", json!({})).await;
    let metrics = cluster.api[0].metrics().await;
    assert!(metrics.contains("roomcast_rate_limited_total{limit=\"writes\"} 2"), "{metrics}");
    eventually("she may write again", || async {
        (send().await.expect("an answer").status() == StatusCode::CREATED).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_address_asks_so_often() {
    let limits = [
        ("ROOMCAST_RATE_REQUESTS", "1:2"),
        ("ROOMCAST_RATE_UPGRADES", "1:2"),
        ("ROOMCAST_ADDRESS_HEADER", "x-forwarded-for"),
    ];
    let cluster = started(&limits).await;
    let ann = cluster.rest(0, "ann");
    let ask = async |address: &str, path: &str| {
        let request = ann.request(Method::GET, path).header("x-forwarded-for", format!("9.9.9.9, {address}"));
        request.send().await.expect("an answer").status().as_u16()
    };
    let refused = async |address: &str, path: &str| {
        for _ in 0..60 {
            if ask(address, path).await == 429 {
                return true;
            }
        }
        false
    };
    // What does not exist is counted too: it costs as much to look for.
    for (address, path) in [("10.1.1.1", "/api/v1/rooms"), ("10.1.1.3", "/nowhere")] {
        assert!(refused(address, path).await, "{path}");
    }
    assert_eq!(ask("10.1.1.2", "/api/v1/rooms").await, 200, "another address");
    assert!(refused("2001:db8::1", "/api/v1/rooms").await);
    assert!(refused("2001:db8::2", "/api/v1/rooms").await, "one network counts as one");

    let address = cluster.fanout[0].address();
    let mut opened = Vec::new();
    let refused = loop {
        match Socket::open(&address, &token("ann")).await {
            Ok(socket) => opened.push(socket),
            Err(error) => break error.to_string(),
        }
        assert!(opened.len() < 60, "nothing is refused");
    };
    assert!(refused.contains("429"), "{refused}");
    assert_eq!(opened[0].must("ping", json!({})).await, json!({}), "open ones are not touched");
}

#[tokio::test]
async fn a_rate_of_no_form_is_refused_with_its_variable() {
    let api = tests::cluster::program("roomcast-api");
    let output =
        std::process::Command::new(api).env("ROOMCAST_RATE_WRITES", "5/s").output().expect("it starts");
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(line.contains("ROOMCAST_RATE_WRITES") && line.contains("5:100"), "{line}");
}
