//! Tests profiles: by tokens of clocks that differ, by admins, and fields that become unknown again.

use std::sync::LazyLock;

use protocol::clock::Timestamp;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size, sign},
    eventually,
};

use super::{admin, refusal};

/// The path of the person whose profile these tests change.
static BOB: LazyLock<String> = LazyLock::new(|| paths::user("bob"));

fn now() -> i64 {
    Timestamp::now().unix_ms() / 1_000
}

#[tokio::test]
async fn profile_set_by_an_admin_wins_over_tokens() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let root = admin(&cluster, 0);
    // The token's issuer has a clock ahead of this machine's.
    let ahead = sign(&json!({ "user_id": "bob", "iat": now() + 50, "username": "Bob" }));
    let [here, there] = [0, 1].map(|node: usize| Rest::new(&cluster.api[node].address(), &ahead));
    assert_eq!(here.get(&BOB).await.1["username"], "Bob");
    for name in ["Robert", "Rob"] {
        let (status, changed) = root.put(&BOB, json!({ "username": name })).await;
        assert_eq!((status, &changed["username"]), (StatusCode::OK, &json!(name)));
        for rest in [&here, &there] {
            assert_eq!(rest.get(&BOB).await.1["username"], name, "an older token does not undo the change");
        }
    }
    // An `iat` in milliseconds would be newer than every later token.
    let frozen = sign(&json!({ "user_id": "bob", "iat": Timestamp::now().unix_ms(), "username": "Ice" }));
    let answer = Rest::new(&cluster.api[0].address(), &frozen).get(&BOB).await;
    assert_eq!(refusal(&answer), (401, "unauthorized", "Token is not valid yet"));
    assert_eq!(here.get(&BOB).await.1["username"], "Rob");
}

#[tokio::test]
async fn description_by_an_admin_is_refused_while_a_token_from_ahead_is_not_applied() {
    let mut cluster = Cluster::start(Size::default()).await;
    let root = admin(&cluster, 0);
    let ahead = sign(&json!({ "user_id": "bob", "iat": now() + 50, "username": "Bob" }));
    let bob = Rest::new(&cluster.api[0].address(), &ahead);
    cluster.persister[0].pause();
    // Once the request is answered, the name is in the log.
    bob.get(paths::TEAMS).await;
    let lags = (503, "unavailable", "The profile is not available now. Try again.");
    assert_eq!(refusal(&root.put(&BOB, json!({ "username": "Rob" })).await), lags);
    cluster.persister[0].resume();
    eventually("the profile change is stored", || async {
        let (status, changed) = root.put(&BOB, json!({ "username": "Rob" })).await;
        (status == StatusCode::OK && changed["username"] == "Rob").then_some(())
    })
    .await;
    assert_eq!(bob.get(&BOB).await.1["username"], "Rob");
}

#[tokio::test]
async fn profile_that_was_kept_for_ever_by_an_older_version_is_changed_again() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let with_claims = |iat: i64, name: &str| {
        Rest::new(
            &cluster.api[0].address(),
            &sign(&json!({ "user_id": "bob", "iat": iat, "username": name })),
        )
    };
    assert_eq!(with_claims(now() - 60, "Bob").get(&BOB).await.1["username"], "Bob");
    let pool = cluster.database.pool().await;
    let frozen = async || {
        let sql = "UPDATE person SET issued_at = issued_at * 1000 WHERE user_id = 'bob'";
        let done = sqlx::query(sql).execute(&pool).await.expect("the update succeeds");
        assert_eq!(done.rows_affected(), 1);
    };
    frozen().await;
    assert_eq!(with_claims(now() - 30, "Robert").get(&BOB).await.1["username"], "Robert");
    frozen().await;
    let (_, changed) = admin(&cluster, 1).put(&BOB, json!({ "username": "Rob" })).await;
    assert_eq!(changed["username"], "Rob");
}

#[tokio::test]
async fn newer_token_of_an_open_socket_updates_the_profile() {
    let cluster = Cluster::start(Size::default()).await;
    let token = |iat: i64, name: &str| sign(&json!({ "user_id": "bob", "iat": iat, "username": name }));
    let now = now();
    let mut socket =
        Socket::open(&cluster.fanout[0].address(), &token(now - 60, "Bob")).await.expect("the socket opens");
    let ann = cluster.rest(0, "ann");
    assert_eq!(ann.get(&BOB).await.1["username"], "Bob");
    socket.act_ok("authenticate", json!({ "token": token(now - 30, "Robert") })).await;
    assert_eq!(
        ann.get(&BOB).await.1["username"],
        "Robert",
        "the profile is changed once the action is answered"
    );
    socket.act_ok("authenticate", json!({ "token": token(now - 50, "Bob") })).await;
    assert_eq!(ann.get(&BOB).await.1["username"], "Robert", "an older token changes nothing");
}

#[tokio::test]
async fn profile_field_set_to_null_stays_unknown_for_older_tokens() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let root = admin(&cluster, 0);
    let token = |iat: i64| {
        let claims = json!({
            "user_id": "bob", "iat": iat, "username": "Bob", "main_photo": "bob.jpg", "business": true,
            "email": null,
        });
        Rest::new(&cluster.api[1].address(), &sign(&claims))
    };
    let older = token(now() - 60);
    let shown = async |rest: &Rest| {
        let (_, bob) = rest.get(&BOB).await;
        ["username", "main_photo", "business", "email"].map(|field| bob[field].clone())
    };
    assert_eq!(shown(&older).await[0], "Bob");
    root.put(&BOB, json!({ "email": "bob@example.com" })).await;
    let whole = [json!("Bob"), json!("bob.jpg"), json!(true), json!("bob@example.com")];
    assert_eq!(shown(&older).await, whole, "a null claim changes no field");
    let (status, _) = root.put(&BOB, json!({ "main_photo": null, "business": null })).await;
    assert_eq!(status, StatusCode::OK);
    let part = [json!("Bob"), Value::Null, Value::Null, json!("bob@example.com")];
    assert_eq!((shown(&older).await, shown(&root).await), (part.clone(), part));
    assert_eq!(shown(&token(now() + 20)).await, whole, "a newer token sets the fields again");
}
