//! Tokens that do not count open nothing: not a request, not a socket.

use reqwest::StatusCode;
use serde_json::json;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size, sign},
};
use tokio_tungstenite::tungstenite::Error;

#[tokio::test]
async fn wrong_forged_expired_and_unsigned_tokens_are_refused() {
    let cluster = Cluster::start(Size::default()).await;
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
        let (status, problem) = Rest::new(&cluster.api[0].address(), &token).get("/api/v1/rooms").await;
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
    let (status, _) = Rest::new(&cluster.api[0].address(), &valid).get("/api/v1/rooms").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn another_origin_is_refused_before_anything() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let request = ann.request(reqwest::Method::GET, "/api/v1/rooms").header("origin", "https://evil.example");
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::FORBIDDEN);
    let socket = Rest::new(&cluster.fanout[0].address(), &sign(&json!({ "user_id": 7 })));
    let request = socket
        .request(reqwest::Method::GET, "/ws/")
        .header("origin", "https://evil.example")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_older_token_does_not_bring_an_older_name_back() {
    let cluster = Cluster::start(Size { api: 2, fanout: 2, ..Size::default() }).await;
    let token = |iat: i64, name: &str| sign(&json!({ "user_id": "bob", "iat": iat, "username": name }));
    let (older, newer) = (token(1_700_000_000, "Robert"), token(1_700_000_060, "Bob"));
    // Both count, and two devices use them by turns.
    for n in 0..6 {
        let token = if n % 2 == 0 { &newer } else { &older };
        Socket::open(&cluster.fanout[n % 2].address(), token).await.expect("it opens");
    }
    let pool = cluster.database.pool().await;
    let sql = "SELECT profile->>'username' FROM person WHERE user_id = 'bob'";
    let name: String = tests::eventually("the profile has landed", || async {
        sqlx::query_scalar(sql).fetch_optional(&pool).await.expect("a superuser may")
    })
    .await;
    assert_eq!(name, "Bob");
    let stored: i64 = tests::eventually("all has landed", || async {
        let sql = "SELECT issued_at FROM person WHERE user_id = 'bob'";
        sqlx::query_scalar(sql).fetch_optional(&pool).await.expect("a superuser may")
    })
    .await;
    assert_eq!(stored, 1_700_000_060);
}
