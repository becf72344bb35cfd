//! Checks the rate limits by person, by address, by socket and by pair of people.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size, sign, token},
    eventually,
    postgres::Database,
};

async fn start(more: &[(&'static str, &str)]) -> Cluster {
    Cluster::start_with(Size::default(), Database::shared(), more).await
}

#[tokio::test]
async fn writes_of_a_person_are_limited_and_others_unaffected() {
    let cluster = start(&[("ROOMCAST_RATE_WRITES", "1:3")]).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let room = ann.create_room("general").await;
    let messages = paths::messages(room);
    let send = || ann.request(Method::POST, &messages).json(&json!({ "message": "hi" })).send();
    let refused = loop {
        let answer = send().await.expect("the node answers");
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
    bob.send_message(room, "hello").await;

    // A person's sockets are counted with their requests.
    let mut socket = cluster.socket(0, "ann").await;
    socket.join_room(room).await;
    let answer = loop {
        let answer = socket.act("create_message", json!({ "msg_text": "hi" })).await;
        if answer.status != 201 {
            break answer;
        }
    };
    assert_eq!(answer.refusal(), (429, "That is too often. Try again in 1 s."));
    socket.act_ok("history", json!({})).await;
    // Admins, such as the host application, are not limited.
    let root = Rest::new(&cluster.api[0].address(), &sign(&json!({ "user_id": "root", "is_admin": true })));
    for n in 0..6 {
        root.send_message(room, &format!("{n}")).await;
    }
    let metrics = cluster.api[0].metrics().await;
    assert!(metrics.contains("roomcast_rate_limited_total{limit=\"writes\"} 2"), "{metrics}");
    eventually("ann may write again", || async {
        (send().await.expect("the node answers").status() == StatusCode::CREATED).then_some(())
    })
    .await;
}

#[tokio::test]
async fn requests_of_an_address_are_limited() {
    let limits = [
        ("ROOMCAST_RATE_REQUESTS", "1:2"),
        ("ROOMCAST_RATE_UPGRADES", "1:2"),
        ("ROOMCAST_ADDRESS_HEADER", "x-forwarded-for"),
    ];
    let cluster = start(&limits).await;
    let ann = cluster.rest(0, "ann");
    let ask = async |address: &str, path: &str| {
        let request = ann.request(Method::GET, path).header("x-forwarded-for", format!("9.9.9.9, {address}"));
        request.send().await.expect("the node answers").status().as_u16()
    };
    let refused = async |address: &str, path: &str| {
        for _ in 0..60 {
            if ask(address, path).await == 429 {
                return true;
            }
        }
        false
    };
    // Requests for unknown paths are counted too.
    for (address, path) in [("10.1.1.1", paths::ROOMS), ("10.1.1.3", "/nowhere")] {
        assert!(refused(address, path).await, "{path}");
    }
    assert_eq!(ask("10.1.1.2", paths::ROOMS).await, 200, "another address is not limited");
    assert!(refused("2001:db8::1", paths::ROOMS).await);
    assert!(refused("2001:db8::2", paths::ROOMS).await, "addresses of one /64 share a limit");

    let address = cluster.fanout[0].address();
    let mut opened = Vec::new();
    let refused = loop {
        match Socket::open(&address, &token("ann")).await {
            Ok(socket) => opened.push(socket),
            Err(error) => break error.to_string(),
        }
        assert!(opened.len() < 60, "the limit refuses a socket");
    };
    assert!(refused.contains("429"), "{refused}");
    assert_eq!(opened[0].act_ok("ping", json!({})).await, json!({}), "open sockets stay open");
}

#[tokio::test]
async fn loopback_address_is_not_limited_without_an_address_header() {
    let cluster = start(&[("ROOMCAST_RATE_REQUESTS", "1/h:1"), ("ROOMCAST_RATE_UPGRADES", "1/h:1")]).await;
    let ann = cluster.rest(0, "ann");
    for _ in 0..4 {
        let request = ann.request(Method::GET, paths::ROOMS).header("x-forwarded-for", "10.1.1.1");
        assert_eq!(request.send().await.expect("the node answers").status(), StatusCode::OK);
        cluster.socket(0, "ann").await;
    }
}

#[tokio::test]
async fn socket_action_beyond_the_limit_does_nothing() {
    // Eight actions at once, and no more during the test.
    let cluster = start(&[("ROOMCAST_RATE_FRAMES", "1/h:8")]).await;
    let room = cluster.rest(0, "ann").create_room("general").await;
    let actions = [
        ("join_room", json!({ "room_pk": room })),
        ("history", json!({ "room_pk": room })),
        ("list", json!({})),
        ("typing", json!({ "room_pk": room })),
        ("ping", json!({})),
        ("signal", json!({ "user": "bob", "data": 1 })),
        ("create_message", json!({ "room_pk": room, "msg_text": "hi" })),
        ("leave_room", json!({ "room_pk": room })),
        ("subscribe", json!({ "channel": "system" })),
    ];
    let mut first = cluster.socket(0, "ann").await;
    for (n, (action, fields)) in actions.iter().enumerate() {
        let answer = first.act(action, fields.clone()).await;
        assert_eq!(answer.status == 429, n >= 8, "{action}: {answer}");
    }
    let mut spent = cluster.socket(0, "ann").await;
    spent.subscribe_room(room).await;
    for _ in 0..7 {
        spent.act_ok("ping", json!({})).await;
    }
    let stored = cluster.event_count().await;
    for (action, fields) in &actions[..3] {
        let answer = spent.act(action, fields.clone()).await;
        assert_eq!((answer.status, &answer.action), (429, &json!(action)), "{answer}");
        assert!(answer.refusal().1.starts_with("That is too often."), "{answer}");
    }
    assert_eq!(cluster.event_count().await, stored);
    let metrics = cluster.fanout[0].metrics().await;
    assert!(metrics.contains("roomcast_rate_limited_total{limit=\"frames\"} 4"), "{metrics}");
    let mut binary = cluster.socket(0, "ann").await;
    for _ in 0..8 {
        binary.send_binary(b"{}").await.expect("the socket is open");
    }
    let answer = binary.act("ping", json!({})).await;
    assert_eq!(answer.status, 429, "frames that are not text are counted: {answer}");
    // Another socket of the same person has its own limit, and admins are not limited.
    cluster.socket(0, "ann").await.act_ok("ping", json!({})).await;
    let root = sign(&json!({ "user_id": "root", "is_admin": true }));
    let mut root = Socket::open(&cluster.fanout[0].address(), &root).await.expect("the socket opens");
    for _ in 0..20 {
        root.act_ok("ping", json!({})).await;
    }
}

#[tokio::test]
async fn sockets_of_a_person_and_channels_of_a_socket_are_limited() {
    let limits = [("ROOMCAST_SOCKETS_PERSON", "2"), ("ROOMCAST_CHANNELS_SOCKET", "2")];
    let cluster = start(&limits).await;
    let ann = cluster.rest(0, "ann");
    let rooms = [ann.create_room("a").await, ann.create_room("b").await, ann.create_room("c").await];
    let (mut socket, second) = (cluster.socket(0, "ann").await, cluster.socket(0, "ann").await);
    let refused = Socket::open(&cluster.fanout[0].address(), &token("ann"))
        .await
        .err()
        .expect("the third socket is refused");
    assert!(refused.to_string().contains("429"), "{refused}");
    cluster.socket(0, "bob").await;
    let admin = sign(&json!({ "user_id": "root", "is_admin": true }));
    let mut of_admin = Vec::new();
    for _ in 0..3 {
        of_admin.push(Socket::open(&cluster.fanout[0].address(), &admin).await.expect("the socket opens"));
    }
    drop(second);
    eventually("a socket may be opened again", || async {
        Socket::open(&cluster.fanout[0].address(), &token("ann")).await.ok()
    })
    .await;
    for room in rooms[..2].iter().copied() {
        socket.join_room(room).await;
    }
    let stored = cluster.event_count().await;
    for (action, fields) in [
        ("join_room", json!({ "room_pk": rooms[2] })),
        ("subscribe", json!({ "channel": format!("room-{}", rooms[2]) })),
    ] {
        let answer = socket.act(action, fields).await;
        let error = "A socket may follow 2 channels at most. Leave one first.";
        assert_eq!(answer.refusal(), (429, error));
    }
    assert_eq!(cluster.event_count().await, stored, "a refused join stores no event");
    socket.subscribe_room(rooms[0]).await;
    socket.leave_room(rooms[0]).await;
    socket.join_room(rooms[2]).await;
}

#[tokio::test]
async fn invitations_between_two_people_are_limited() {
    let cluster = start(&[("ROOMCAST_RATE_INVITATIONS", "1/h:2")]).await;
    let ann = cluster.rest(0, "ann");
    let mut statuses = Vec::new();
    for n in 0..3 {
        let room = ann.create_room(&format!("{n}")).await;
        let (status, _) = ann.post(&paths::invitations(room), json!({ "user": "bob" })).await;
        statuses.push(status.as_u16());
        let (status, _) = ann.post(&paths::invitations(room), json!({ "user": "cid" })).await;
        statuses.push(status.as_u16());
    }
    assert_eq!(statuses, [201, 201, 201, 201, 429, 429], "each pair of people has its own limit");
    assert_eq!(cluster.rest(0, "bob").page(paths::INVITATIONS).await.results.len(), 2);
}

#[tokio::test]
async fn limits_are_on_by_default_and_shown_in_help() {
    for (program, settings) in [
        (
            "roomcast-api",
            &[
                ("RATE_WRITES", "20:200"),
                ("RATE_REQUESTS", "200:2000"),
                ("RATE_INVITATIONS", "60/h"),
                ("RATE_VISITOR_ROOMS", "60/h"),
                ("SEARCHES_PERSON", "1"),
            ][..],
        ),
        (
            "roomcast-fanout",
            &[
                ("RATE_UPGRADES", "50:1000"),
                ("RATE_FRAMES", "50:2000"),
                ("RATE_SIGNALS", "10:200"),
                ("SOCKETS_PERSON", "50"),
                ("CHANNELS_SOCKET", "1000"),
            ],
        ),
    ] {
        let help = std::process::Command::new(tests::cluster::program(program)).arg("--help").output();
        let help = String::from_utf8(help.expect("the program starts").stdout).expect("text");
        let operating = include_str!("../../../deploy/OPERATING.md");
        for (name, default) in settings {
            let at = help.find(&format!("[env: ROOMCAST_{name}=")).expect(name);
            let line = help[at..].lines().take(2).collect::<String>();
            assert!(line.contains(&format!("[default: {default}]")), "{name}: {line}");
            let row = format!("`ROOMCAST_{name}` | {default} |");
            assert!(operating.contains(&row), "OPERATING.md has no row {row}");
        }
    }
}

#[tokio::test]
async fn malformed_rate_is_refused_with_its_variable() {
    let api = tests::cluster::program("roomcast-api");
    let output = std::process::Command::new(api)
        .env("ROOMCAST_RATE_WRITES", "5/d")
        .output()
        .expect("the program starts");
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(line.contains("ROOMCAST_RATE_WRITES") && line.contains("5:100"), "{line}");
}
