//! Checks that invalid tokens are refused for requests and sockets, and what valid ones say of a person.

use protocol::clock::Timestamp;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size, sign},
};
use tokio_tungstenite::tungstenite::Error;

#[tokio::test]
async fn wrong_forged_expired_and_unsigned_tokens_are_refused() {
    let cluster = Cluster::shared().await;
    let valid = sign(&json!({ "user_id": 7 }));
    let (head, signature) = valid.rsplit_once('.').expect("three parts");
    let bad = [
        (sign(&json!({ "user_id": 7, "exp": 1 })), "Token is expired"),
        (sign(&json!({ "user_id": 7, "token_type": "refresh" })), "Token has wrong type"),
        (sign(&json!({ "user_id": "a b" })), "Token is invalid"),
        (format!("{head}.{}", signature.chars().rev().collect::<String>()), "Token is invalid"),
        (
            "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJ1c2VyX2lkIjo3LCJleHAiOjk5OTk5OTk5OTl9.".to_owned(),
            "Token is invalid",
        ),
        ("nonsense".to_owned(), "Token is invalid"),
    ];
    for (token, detail) in bad {
        let (status, problem) = Rest::new(&cluster.api[0].address(), &token).get(paths::ROOMS).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{token}");
        assert_eq!(
            (&problem["code"], &problem["detail"]),
            (&json!("unauthorized"), &json!(detail)),
            "{token}"
        );
        match Socket::open(&cluster.fanout[0].address(), &token).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status().as_u16(), 401, "{token}"),
            other => panic!("{token}: {:?}", other.map(|_| "a socket")),
        }
    }
    let (status, _) = Rest::new(&cluster.api[0].address(), &valid).get(paths::ROOMS).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn socket_from_another_origin_is_refused_before_its_token_is_read() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let request = ann.request(reqwest::Method::GET, paths::ROOMS).header("origin", "https://evil.example");
    assert_eq!(request.send().await.expect("the node answers").status(), StatusCode::FORBIDDEN);
    let socket = Rest::new(&cluster.fanout[0].address(), &sign(&json!({ "user_id": 7 })));
    let request = socket
        .request(reqwest::Method::GET, "/ws/")
        .header("origin", "https://evil.example")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(request.send().await.expect("the node answers").status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn older_token_does_not_restore_an_older_name() {
    let cluster = Cluster::start(Size { api: 2, fanout: 2, ..Size::default() }).await;
    let token = |iat: i64, name: &str| sign(&json!({ "user_id": "bob", "iat": iat, "username": name }));
    let (older, newer) = (token(1_700_000_000, "Robert"), token(1_700_000_060, "Bob"));
    // Both tokens are valid, and two devices use them in turn.
    for n in 0..6 {
        let token = if n % 2 == 0 { &newer } else { &older };
        Socket::open(&cluster.fanout[n % 2].address(), token).await.expect("the socket opens");
    }
    let pool = cluster.database.pool().await;
    let sql = "SELECT profile->>'username' FROM person WHERE user_id = 'bob'";
    let name: String = tests::eventually("the profile is in Postgres", || async {
        sqlx::query_scalar(sql).fetch_optional(&pool).await.expect("the update succeeds")
    })
    .await;
    assert_eq!(name, "Bob");
    let stored: i64 = tests::eventually("Postgres has all events", || async {
        let sql = "SELECT issued_at FROM person WHERE user_id = 'bob'";
        sqlx::query_scalar(sql).fetch_optional(&pool).await.expect("the update succeeds")
    })
    .await;
    assert_eq!(stored, 1_700_000_060);
}

#[tokio::test]
async fn socket_ends_in_the_fraction_of_a_second_that_its_token_names() {
    let cluster = Cluster::shared().await;
    let expires_ms = Timestamp::now().unix_ms() + 1_700;
    let exp: Value = serde_json::from_str(&format!("{expires_ms}e-3")).expect("a number");
    let token = sign(&json!({ "user_id": "bob", "exp": exp }));
    let (status, _) = Rest::new(&cluster.api[0].address(), &token).get(paths::ROOMS).await;
    assert_eq!(status, StatusCode::OK);
    let mut socket = Socket::open(&cluster.fanout[0].address(), &token).await.expect("the socket opens");
    let closed = loop {
        match socket.next().await {
            Ok(_) => {}
            Err(closed) => break closed.to_string(),
        }
    };
    assert!(closed.contains("closed 4001"), "{closed}");
    assert!(Timestamp::now().unix_ms() >= expires_ms, "the connection stays open until the timeout");
    let (status, problem) = Rest::new(&cluster.api[0].address(), &token).get(paths::ROOMS).await;
    assert_eq!((status, &problem["detail"]), (StatusCode::UNAUTHORIZED, &json!("Token is expired")));
}

#[tokio::test]
async fn person_id_means_the_same_in_token_body_path_and_channel() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    for (id, path) in [
        (json!(175_928_847_299_117_063_u64), "175928847299117063"),
        (json!("auth0|507f1f77bcf86cd799439011"), "auth0%7C507f1f77bcf86cd799439011"),
        (json!("a+b@example.com"), "a+b@example.com"),
        (json!("o'brien/sons?#%&=@example.com"), "o'brien%2Fsons%3F%23%25&=@example.com"),
    ] {
        let text = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        let body = json!({ "name": "board", "private": true, "users": [id] });
        let (status, room) = ann.post(paths::ROOMS, body).await;
        assert_eq!((status, &room["users"]), (StatusCode::CREATED, &json!([text])), "{room}");
        let room = tests::native::id(&room);
        let token = sign(&json!({ "user_id": id }));
        let rest = Rest::new(&cluster.api[0].address(), &token);
        let sent = rest.send_message(room, "hi").await;
        let message = &ann.messages(room).await[0];
        assert_eq!((message.id, &message.user), (sent, &text));
        let mut socket = Socket::open(&cluster.fanout[0].address(), &token).await.expect("the socket opens");
        socket.subscribe(&format!("user-{text}")).await;
        let member = paths::member(room, path);
        assert_eq!(rest.get(&paths::user(path)).await.1["id"], text);
        let (status, _) = ann.delete(&member).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{member}");
        let (status, _) = rest.get(&paths::room(room)).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{text} is out");
    }
}

#[tokio::test]
async fn admin_claim_counts_only_as_true() {
    let cluster = Cluster::shared().await;
    for claim in [json!(null), json!(0), json!(1), json!("false"), json!("true")] {
        let token = sign(&json!({ "user_id": "bob", "is_admin": claim, "is_staff": claim }));
        let rest = Rest::new(&cluster.api[0].address(), &token);
        assert_eq!(rest.get(paths::ROOMS).await.0, StatusCode::OK, "{claim}");
        let (status, _) = rest.put(&paths::user("ann"), json!({})).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{claim}");
    }
}

#[tokio::test]
async fn token_of_another_audience_or_issuer_is_refused() {
    let named = [("ROOMCAST_JWT_AUDIENCE", "chat, desk"), ("ROOMCAST_JWT_ISSUER", "https://host.example")];
    let cluster = Cluster::start_with(Size::default(), tests::postgres::Database::shared(), &named).await;
    let claims = |aud: Value, iss: &str| json!({ "user_id": "bob", "aud": aud, "iss": iss });
    for (claims, counts) in [
        (claims(json!("desk"), "https://host.example"), true),
        (claims(json!(["other", "chat"]), "https://host.example"), true),
        (claims(json!("other"), "https://host.example"), false),
        (claims(json!("chat"), "https://other.example"), false),
        (json!({ "user_id": "bob" }), false),
    ] {
        let token = sign(&claims);
        let (status, _) = Rest::new(&cluster.api[0].address(), &token).get(paths::ROOMS).await;
        let opened = Socket::open(&cluster.fanout[0].address(), &token).await;
        assert_eq!((status == StatusCode::OK, opened.is_ok()), (counts, counts), "{claims}");
        assert!(counts || status == StatusCode::UNAUTHORIZED, "{status}");
    }
}
