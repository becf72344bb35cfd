//! Checks how rooms are created, changed, closed and shown.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Size};
use tests::paths;

use super::{CLOSED, FORBIDDEN, NOT_FOUND, admin, refusal};

#[tokio::test]
async fn creator_changes_a_room() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let room = ann.create_room("general").await;
    let path = paths::room(room);
    assert_eq!(refusal(&bob.patch(&path, json!({ "name": "mine" })).await), FORBIDDEN);
    let nothing = "name, description, private: one of them must be given.";
    assert_eq!(refusal(&ann.patch(&path, json!({})).await), (400, "bad_request", nothing));
    assert_eq!(
        refusal(&ann.patch(&path, json!({ "name": " " })).await),
        (400, "bad_request", "name: must not be blank.")
    );

    let mut socket = cluster.socket(0, "bob").await;
    socket.subscribe_room(room).await;
    let (status, changed) = ann.patch(&path, json!({ "name": "talk", "description": "Any." })).await;
    assert_eq!((status, &changed["name"]), (StatusCode::OK, &json!("talk")));
    assert_eq!(changed["description"], "Any.");
    let push = socket.event("room-update").await;
    assert_eq!((&push.data["name"], &push.data["by"]), (&json!("talk"), &json!("ann")));
    let (_, shown) = bob.get(&path).await;
    assert_eq!(shown, changed);

    let (_, changed) = admin(&cluster, 0).patch(&path, json!({ "private": true })).await;
    assert_eq!((&changed["private"], &changed["kind"]), (&json!(true), &json!("private")));
    assert_eq!(changed["name"], "talk", "fields that are not given keep their values");
    assert_eq!(refusal(&bob.get(&path).await), NOT_FOUND);
    assert_eq!(bob.rooms().await, []);
    let (_, changed) = ann.patch(&path, json!({ "private": false })).await;
    assert_eq!((&changed["private"], &changed["kind"]), (&json!(false), &json!("public")));
    assert_eq!(bob.get(&path).await.0, StatusCode::OK);
}

#[tokio::test]
async fn closed_room_is_only_read() {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let room = ann.create_room("general").await;
    let id = bob.send_message(room, "hello").await;
    let path = paths::room(room);
    assert_eq!(refusal(&bob.delete(&path).await), FORBIDDEN);
    assert_eq!(ann.delete(&path).await, (StatusCode::NO_CONTENT, Value::Null));
    assert_eq!(ann.delete(&path).await.0, StatusCode::NO_CONTENT, "closing a closed room succeeds");

    let (_, shown) = bob.get(&path).await;
    assert_eq!(shown["active"], false);
    assert_eq!(bob.messages(room).await[0].id, id);
    assert_eq!(ann.rooms().await, []);
    let answer = bob.post(&format!("{path}/messages"), json!({ "message": "hi" })).await;
    assert_eq!(refusal(&answer), CLOSED);
    assert_eq!(refusal(&ann.patch(&path, json!({ "name": "again" })).await), CLOSED);
    let edit = ann.patch(&format!("{path}/messages/{id}"), json!({ "message": "x" })).await;
    assert_eq!(refusal(&edit), CLOSED);

    let mut socket = cluster.socket(0, "bob").await;
    for (action, body) in [
        ("join_room", json!({ "room_pk": room })),
        ("subscribe", json!({ "channel": format!("room-{room}") })),
        ("create_message", json!({ "room_pk": room, "msg_text": "hi" })),
    ] {
        let answer = socket.act(action, body).await;
        assert_eq!(answer.refusal(), (409, "This room is closed."), "{action}");
    }
}

#[tokio::test]
async fn repeated_key_makes_one_room() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let make = async |n: usize, body: Value| {
        let rest = cluster.rest(n, "ann");
        let request = rest.request(Method::POST, paths::ROOMS).header("idempotency-key", "k-1");
        let answer = request.json(&body).send().await.expect("the node answers");
        (answer.status(), answer.json::<Value>().await.expect("JSON"))
    };
    let body = json!({ "name": "board", "private": true, "users": ["bob"] });
    let first = make(0, body.clone()).await;
    assert_eq!(first.0, StatusCode::CREATED);
    assert_eq!(make(1, body).await, first, "the repeated answer is the first one");
    let another = make(1, json!({ "name": "another" })).await;
    let detail = "This Idempotency-Key was used before, for something else.";
    assert_eq!(refusal(&another), (422, "key_reused", detail));
    assert_eq!(cluster.rest(0, "bob").rooms().await.len(), 1);
}

#[tokio::test]
async fn room_shows_participants_and_unread_count() {
    let cluster = Cluster::shared().await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let room = ann.create_private_room(&["bob", "cid"]).await;
    let mut socket = cluster.socket(0, "bob").await;
    socket.join_room(room).await;
    socket.event("participant-join").await;
    ann.send_message(room, "one").await;
    bob.send_message(room, "two").await;
    let shown = tests::eventually("bob is in the room", || async {
        let (_, shown) = ann.get(&paths::room(room)).await;
        (shown["participants"] == json!(["bob"]) && shown["unread"] == 1).then_some(shown)
    });
    let shown = shown.await;
    assert_eq!(shown["users"], json!(["bob", "cid"]));
    assert!(shown.get("count").is_none(), "few participants are named, not counted: {shown}");
    let (_, present) = ann.get(&paths::participants(room)).await;
    assert_eq!(present, json!({ "results": ["bob"], "next": null }));
    let stranger = cluster.rest(0, "eve").get(&paths::participants(room)).await;
    assert_eq!(refusal(&stranger), NOT_FOUND);
}

#[tokio::test]
async fn unread_count_ends_at_the_own_newest_message_and_at_a_hundred() {
    let cluster = Cluster::shared().await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(0, "bob"));
    let room = ann.create_room("general").await;
    let unread = async || {
        let (status, _) = bob.get(&paths::messages(room)).await;
        assert_eq!(status, StatusCode::OK, "the sent messages are applied");
        bob.get(&paths::room(room)).await.1["unread"].clone()
    };
    for n in 0..3 {
        ann.send_message(room, &format!("{n}")).await;
    }
    assert_eq!(unread().await, 3);
    let own = bob.send_message(room, "I have read it").await;
    assert_eq!(unread().await, 0, "a person's own message marks the room as read");
    let deleted = ann.send_message(room, "a mistake").await;
    ann.delete(&paths::message(room, deleted)).await;
    ann.send_message(room, "news").await;
    assert_eq!(unread().await, 1);
    bob.delete(&paths::message(room, own)).await;
    assert_eq!(unread().await, 1, "deleting a read message changes no unread count");
    for n in 0..101 {
        ann.send_message(room, &format!("{n}")).await;
    }
    assert_eq!(unread().await, 100);
}

#[tokio::test]
async fn members_of_a_large_room_and_a_large_team_are_counted_and_come_in_pages() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let users: Vec<String> = (0..150).map(|n| format!("user-{n:03}")).collect();
    let (first, later) = users.split_at(100);
    let body = json!({ "name": "large", "private": true, "users": first });
    let room = ann.create(paths::ROOMS, body).await;
    let team = ann.create(paths::TEAMS, json!({ "name": "large", "users": first })).await;
    for user in later {
        for path in [paths::room(room), paths::team(team)] {
            let added = ann.put(&format!("{path}/members/{user}"), Value::Null).await;
            assert!(added.0.is_success(), "{path}");
        }
    }
    let of_team = ann.create_team_room("theirs", team).await;
    for path in [paths::room(room), paths::team(team), paths::room(of_team)] {
        let (_, shown) = ann.get(&path).await;
        assert_eq!((&shown["users"], &shown["users_count"]), (&json!(users[..100]), &json!(150)), "{path}");
        let pages = ann.pages(&format!("{path}/members?limit=60"), "cursor").await;
        let found: Vec<_> = pages.into_iter().flat_map(|page| page.results).collect();
        assert_eq!(json!(found), json!(users), "{path}");
    }
    let listed = ann.rooms().await;
    assert!(listed.iter().all(|room| room.users_count == Some(150)), "{listed:?}");
    for user in &users[..60] {
        let path = paths::member(room, user);
        ann.delete(&path).await;
    }
    let (_, shown) = ann.get(&paths::room(room)).await;
    assert_eq!((&shown["users"], shown.get("users_count")), (&json!(users[60..]), None));
    let stranger = cluster.rest(0, "eve").get(&paths::team_members(team)).await;
    assert_eq!(refusal(&stranger), NOT_FOUND);
}
