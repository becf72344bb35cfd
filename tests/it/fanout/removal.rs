//! Tests that rights end at once and on every node: removed users get `unsubscribed`, and no later event.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size, sign},
};

/// Documented time within which a removal takes effect without its event.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(60);

async fn join(cluster: &Cluster, node: usize, user: &str, room: u64) -> Socket {
    let mut socket = cluster.socket(node, user).await;
    socket.join_room(room).await;
    socket
}

/// Checks that the socket is unsubscribed and gets no message that is sent afterwards.
async fn expect_unsubscribed(socket: &mut Socket, ann: &Rest, witness: &mut Socket, room: u64) {
    let unsubscribed = socket.event("unsubscribed").await;
    assert_eq!(unsubscribed.channel, format!("room-{room}"));
    let id = ann.send_message(room, "among us").await;
    while witness.event("chat-message").await.id() != id {}
    let later_pushes = socket.pushes_until_pong().await;
    assert!(later_pushes.iter().all(|push| push.event != "chat-message"), "{later_pushes:?}");
    let answer = socket.act("create_message", json!({ "room_pk": room, "msg_text": "hi" })).await;
    assert_eq!(answer.status, 404, "{answer}");
    let answer = socket.act("join_room", json!({ "room_pk": room })).await;
    assert_eq!(answer.status, 404, "{answer}");
}

#[tokio::test]
async fn removal_from_a_private_room_ends_the_subscription_on_every_node() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_private_room(&["bob", "eve"]).await;
    let mut witness = join(&cluster, 0, "eve", room).await;
    let mut sockets = [join(&cluster, 0, "bob", room).await, join(&cluster, 1, "bob", room).await];
    let path = paths::member(room, "bob");
    let (status, _) = ann.delete(&path).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    for bob in &mut sockets {
        assert_eq!(bob.event("member-remove").await.user(), "bob");
        expect_unsubscribed(bob, &ann, &mut witness, room).await;
    }
    // Once added again, he may join again.
    let (status, _) = ann.put(&path, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    sockets[0].join_room(room).await;
    let id = ann.send_message(room, "welcome back").await;
    assert_eq!(sockets[0].event("chat-message").await.id(), id);
}

#[tokio::test]
async fn removal_from_a_team_ends_the_subscriptions_to_its_rooms() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let team = ann.create_team("crew", &["bob", "eve"]).await;
    let room = ann.create_team_room("deck", team).await;
    let mut witness = join(&cluster, 0, "eve", room).await;
    let mut bob = join(&cluster, 0, "bob", room).await;
    let channel = format!("team-{team}");
    let mut follower = cluster.socket(0, "bob").await;
    follower.subscribe(&channel).await;
    witness.subscribe(&channel).await;
    let removed = ann.delete(&paths::team_member(team, "bob")).await;
    assert_eq!(removed.0, StatusCode::NO_CONTENT);
    expect_unsubscribed(&mut bob, &ann, &mut witness, room).await;

    assert_eq!(follower.event("team-member-remove").await.user(), "bob");
    assert_eq!(follower.event("unsubscribed").await.channel, channel);
    let added = ann.put(&paths::team_member(team, "dan"), Value::Null).await;
    assert_eq!(added.0, StatusCode::NO_CONTENT);
    while witness.event("team-member-add").await.user() != "dan" {}
    let later_pushes = follower.pushes_until_pong().await;
    assert!(later_pushes.iter().all(|push| push.channel != channel), "{later_pushes:?}");
    let answer = follower.act("subscribe", json!({ "channel": channel })).await;
    assert_eq!(answer.status, 404, "{answer}");
}

/// An admin's socket authenticates again with a token without admin rights.
#[tokio::test]
async fn newer_token_with_fewer_rights_ends_subscriptions() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let team = format!("team-{}", ann.create_team("crew", &["eve"]).await);
    let private = ann.create_private_room(&["eve"]).await;
    let public = ann.create_room("general").await;
    let mut witness = join(&cluster, 0, "eve", private).await;
    let mut admins = Vec::new();
    for _ in 0..2 {
        let token = sign(&json!({ "user_id": "carl", "is_admin": true }));
        let mut carl = Socket::open(&cluster.fanout[0].address(), &token).await.expect("the socket opens");
        for room in [private, public] {
            carl.join_room(room).await;
        }
        carl.subscribe(&team).await;
        admins.push(carl);
    }
    let token = sign(&json!({ "user_id": "carl" }));
    admins[0].act_ok("authenticate", json!({ "token": token })).await;
    let mut unsubscribed = Vec::new();
    for _ in 0..2 {
        let push = admins[0].event("unsubscribed").await;
        unsubscribed.push(push.channel);
    }
    unsubscribed.sort();
    assert_eq!(unsubscribed, [format!("room-{private}"), team]);
    let id = ann.send_message(private, "among us").await;
    while witness.event("chat-message").await.id() != id {}
    let later_pushes = admins[0].pushes_until_pong().await;
    assert!(later_pushes.iter().all(|push| push.event != "chat-message"), "{later_pushes:?}");
    assert_eq!(admins[1].event("chat-message").await.id(), id);
    let id = ann.send_message(public, "to all").await;
    assert_eq!(admins[0].event("chat-message").await.id(), id);
}

#[tokio::test]
async fn room_made_private_keeps_only_its_members() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("open").await;
    let mut witness = join(&cluster, 0, "ann", room).await;
    let mut bob = join(&cluster, 0, "bob", room).await;
    let path = paths::room(room);
    let (status, body) = ann.patch(&path, json!({ "private": true })).await;
    assert_eq!((status, &body["private"]), (StatusCode::OK, &json!(true)), "{body}");
    expect_unsubscribed(&mut bob, &ann, &mut witness, room).await;
}

#[tokio::test]
async fn closed_room_is_left_by_everyone() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("open").await;
    let mut bob = join(&cluster, 0, "bob", room).await;
    let path = paths::room(room);
    let (status, _) = ann.delete(&path).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(bob.event("room-update").await.data["closed"], true);
    bob.event("unsubscribed").await;
    let answer = bob.act("create_message", json!({ "room_pk": room, "msg_text": "hi" })).await;
    assert_eq!(answer.status, 409, "{answer}");
    let answer = bob.act("join_room", json!({ "room_pk": room })).await;
    assert_eq!(answer.status, 409, "{answer}");
    let (status, room) = ann.get(&path).await;
    assert_eq!((status, &room["active"]), (StatusCode::OK, &json!(false)), "{room}");
}

#[tokio::test]
async fn removals_that_no_event_told_end_within_a_minute_in_every_room() {
    /// Several rooms per shard, so that fanout asks api about several of them in one request.
    const ROOMS: usize = 24;
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let mut rooms = Vec::new();
    for n in 0..ROOMS {
        let body = json!({ "name": format!("board {n}"), "private": true, "users": ["bob", "eve"] });
        rooms.push(ann.create(paths::ROOMS, body).await);
    }
    let (mut witness, mut bob) = (cluster.socket(0, "eve").await, cluster.socket(0, "bob").await);
    for room in &rooms {
        for socket in [&mut witness, &mut bob] {
            socket.join_room(*room).await;
        }
    }
    // Deletes the rows without an event, as if all notices of the removals had been lost.
    let pool = cluster.database.pool().await;
    let deleted = sqlx::query("DELETE FROM room_member WHERE user_id = 'bob'").execute(&pool).await;
    assert_eq!(
        usize::try_from(deleted.expect("a superuser may delete rows").rows_affected())
            .expect("a small number"),
        ROOMS
    );
    let start = Instant::now();
    let mut channels = HashSet::new();
    while channels.len() < ROOMS {
        let push = bob.event("unsubscribed").await;
        channels.insert(push.channel);
    }
    assert!(start.elapsed() < REMOVAL_TIMEOUT, "{:?}", start.elapsed());
    for room in rooms {
        let id = ann.send_message(room, "among ourselves").await;
        while witness.event("chat-message").await.id() != id {}
    }
    let later_pushes = bob.pushes_until_pong().await;
    assert!(later_pushes.iter().all(|push| push.event != "chat-message"), "{later_pushes:?}");
}
