//! Tests people: described by tokens and by admins, and the rooms they are in.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size, sign},
    eventually,
};

use super::{FORBIDDEN, NOT_FOUND, admin, refusal};

#[tokio::test]
async fn person_has_the_newest_profile() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let now = protocol::clock::Timestamp::now().unix_ms() / 1_000;
    let with_claims = |issued_at: i64, name: &str| {
        let claims = json!({
            "user_id": "bob", "iat": issued_at, "username": name, "email": "bob@example.com",
            "account": 12.5, "business": true,
        });
        Rest::new(&cluster.api[1].address(), &sign(&claims))
    };
    let expected = |name: &str, language: Value, email: Value, account: Value| {
        json!({
            "id": "bob", "username": name, "email": email, "gender": null, "language": language,
            "account": account, "main_photo": null, "business": true, "is_online": false,
            "is_camera": false,
        })
    };
    let path = &paths::user("bob");
    let first = with_claims(now - 20, "Bob");
    let mail = || json!("bob@example.com");
    assert_eq!(first.get(path).await, (StatusCode::OK, expected("Bob", Value::Null, mail(), json!("12.5"))));
    let (ann, root) = (cluster.rest(0, "ann"), admin(&cluster, 0));
    assert_eq!(
        ann.get(path).await.1,
        expected("Bob", Value::Null, Value::Null, Value::Null),
        "others do not see email and account"
    );
    let (status, changed) = root.put(path, json!({ "username": "Robert", "language": "de" })).await;
    assert_eq!((status, changed), (StatusCode::OK, expected("Robert", json!("de"), mail(), json!("12.5"))));
    assert_eq!(
        first.get(path).await.1,
        expected("Robert", json!("de"), mail(), json!("12.5")),
        "an older token changes nothing"
    );
    let newer = with_claims(now + 20, "Bob");
    assert_eq!(newer.get(path).await.1, expected("Bob", json!("de"), mail(), json!("12.5")));
}

#[tokio::test]
async fn person_refusals_have_their_exact_answers() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, root) = (cluster.rest(0, "ann"), admin(&cluster, 0));
    assert_eq!(refusal(&ann.put(&paths::user("ann"), json!({})).await), FORBIDDEN);
    assert_eq!(refusal(&ann.get(&paths::user("not%20an%20id")).await), NOT_FOUND);
    assert_eq!(refusal(&ann.get(&paths::presence("not%20an%20id")).await), NOT_FOUND);
    for (body, detail) in [
        (json!({ "username": 5 }), "username: invalid type: integer `5`, expected a string."),
        (json!({ "business": "yes" }), "business: invalid type: string \"yes\", expected a boolean."),
        (json!({ "email": "a\0b" }), "email: must not contain U+0000."),
        (json!({ "main_photo": "ü".repeat(2_001) }), "main_photo: must have at most 2000 characters."),
    ] {
        assert_eq!(refusal(&root.put(&paths::user("bob"), body).await), (400, "bad_request", detail));
    }
    let (status, nobody) = ann.get(&paths::user("nobody")).await;
    assert_eq!(
        (status, &nobody["username"]),
        (StatusCode::OK, &Value::Null),
        "an unknown person has no username"
    );
}

#[tokio::test]
async fn presence_lists_only_rooms_the_reader_may_enter() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, eve) = (cluster.rest(0, "ann"), cluster.rest(0, "eve"));
    let (open, closed) = (ann.create_room("general").await, ann.create_private_room(&["bob"]).await);
    let path = &paths::presence("bob");
    let nowhere = json!({ "user": "bob", "is_online": false, "rooms": [] });
    assert_eq!(ann.get(path).await, (StatusCode::OK, nowhere.clone()));
    let mut bob = cluster.socket(0, "bob").await;
    for room in [open, closed] {
        bob.join_room(room).await;
    }
    let is = |rest: &Rest, expected: Value| {
        let rest = rest.clone();
        async move {
            eventually(&format!("{expected}"), || async {
                (rest.get(path).await.1 == expected).then_some(())
            })
            .await;
        }
    };
    is(&ann, json!({ "user": "bob", "is_online": true, "rooms": [closed, open] })).await;
    is(&admin(&cluster, 0), json!({ "user": "bob", "is_online": true, "rooms": [closed, open] })).await;
    is(&eve, json!({ "user": "bob", "is_online": true, "rooms": [open] })).await;
    let (_, person) = eve.get(&paths::user("bob")).await;
    assert_eq!(person["is_online"], true);
    drop(bob);
    is(&ann, nowhere).await;
}
