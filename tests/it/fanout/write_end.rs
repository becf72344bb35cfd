//! Tests rooms that are closed, or made narrower, while people write there: what is acknowledged is what everybody
//! has.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size},
};
use tokio::task::JoinSet;

/// Number of rooms that are closed, one after the other.
const ROOMS: usize = 6;
/// Number of messages of each writer before a room is closed.
const BEFORE: usize = 5;

async fn join(cluster: &Cluster, node: usize, user: &str, room: u64) -> Socket {
    let mut socket = cluster.socket(node, user).await;
    socket.join_room(room).await;
    socket
}

/// Writes over HTTP until the room is closed; returns the acknowledged ids.
async fn write_over_http(rest: Rest, room: u64, begun: tokio::sync::mpsc::Sender<()>) -> BTreeSet<u64> {
    let mut stored = BTreeSet::new();
    loop {
        let body = json!({ "message": "over HTTP" });
        let (status, answer) = rest.post(&paths::messages(room), body).await;
        match status {
            StatusCode::CREATED => stored.insert(answer["id"].as_u64().expect("an id")),
            StatusCode::CONFLICT if answer["detail"] == "This room is closed." => return stored,
            _ => panic!("{answer}"),
        };
        if stored.len() == BEFORE {
            begun.send(()).await.expect("the test waits");
        }
    }
}

/// Writes by a socket until the room is closed; returns the acknowledged ids.
async fn write_over_socket(
    mut socket: Socket,
    room: u64,
    begun: tokio::sync::mpsc::Sender<()>,
) -> BTreeSet<u64> {
    let mut stored = BTreeSet::new();
    loop {
        let body = json!({ "room_pk": room, "msg_text": "over a socket" });
        let answer = socket.act("create_message", body).await;
        match answer.status {
            201 => stored.insert(answer.id()),
            409 if answer.errors == ["This room is closed."] => return stored,
            _ => panic!("{answer}"),
        };
        if stored.len() == BEFORE {
            begun.send(()).await.expect("the test waits");
        }
    }
}

/// Ids of all messages pushed to a socket until the room is closed.
async fn hear(mut socket: Socket) -> BTreeSet<u64> {
    let mut heard = BTreeSet::new();
    loop {
        let push = socket.push().await;
        match &*push.event {
            "chat-message" => drop(heard.insert(push.id())),
            "unsubscribed" => return heard,
            _ => {}
        }
    }
}

#[tokio::test]
async fn messages_acknowledged_while_a_room_closes_reach_everybody() {
    let cluster = Cluster::start(Size { api: 2, fanout: 2, persister: 1 }).await;
    let ann = cluster.rest(0, "ann");
    let pool = cluster.database.pool().await;
    for n in 0..ROOMS {
        let room = ann.create_room(&format!("general {n}")).await;
        let mut listeners = JoinSet::new();
        for node in 0..2 {
            let socket = join(&cluster, node, "listener", room).await;
            listeners.spawn(hear(socket));
        }
        let (begun, mut begins) = tokio::sync::mpsc::channel(5);
        let mut writers = JoinSet::new();
        for node in 0..2 {
            let socket = join(&cluster, node, &format!("socket-{node}"), room).await;
            writers.spawn(write_over_socket(socket, room, begun.clone()));
            let rest = cluster.rest(node, &format!("http-{node}"));
            writers.spawn(write_over_http(rest, room, begun.clone()));
        }
        writers.spawn(write_over_http(cluster.rest(n % 2, "http-2"), room, begun.clone()));
        for _ in 0..5 {
            begins.recv().await.expect("each writes");
        }
        let path = paths::room(room);
        let closer = cluster.rest(n % 2, "ann");
        let (status, _) = closer.delete(&path).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        let acknowledged: BTreeSet<u64> = writers.join_all().await.into_iter().flatten().collect();
        for heard in listeners.join_all().await {
            assert_eq!(heard, acknowledged, "room {room}: what sockets were pushed");
        }
        // A page of history waits until all that was acknowledged is in Postgres.
        assert_eq!(ann.get(&format!("{path}/messages")).await.0, StatusCode::OK);
        let rows: Vec<i64> = sqlx::query_scalar("SELECT id FROM message WHERE room = $1")
            .bind(i64::try_from(room).expect("small"))
            .fetch_all(&pool)
            .await
            .expect("rows");
        let rows: BTreeSet<u64> = rows.into_iter().map(|id| id.try_into().expect("an id")).collect();
        assert_eq!(rows, acknowledged, "room {room}: what Postgres has");
    }
}

#[tokio::test]
async fn socket_of_a_removed_person_may_not_write_once_the_removal_is_acknowledged() {
    let cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let ann = cluster.rest(0, "ann");
    for n in 0..10 {
        let room = ann.create_room("open").await;
        let path = paths::room(room);
        let mut bob = join(&cluster, n % 2, "bob", room).await;
        bob.send_message_to(room, "hi").await;
        let narrowed = if n % 2 == 0 {
            ann.send(Method::PATCH, &path, &json!({ "private": true })).await
        } else {
            ann.send(Method::DELETE, &path, &Value::Null).await
        };
        assert!(narrowed.expect("an answer").0.is_success());
        let answer = bob.act("create_message", json!({ "room_pk": room, "msg_text": "late" })).await;
        let status = if n % 2 == 0 { 404 } else { 409 };
        assert_eq!(answer.status, status, "{answer}");
        let (_, page) = ann.get(&format!("{path}/messages")).await;
        let texts = page["results"].as_array().expect("a list").len();
        assert_eq!(texts, 1, "{page}");
    }
}

#[tokio::test]
async fn messages_behind_a_closing_are_left_out_by_a_later_persister() {
    let mut cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("open").await;
    let id = ann.send_message(room, "before").await;
    let path = paths::room(room);
    let (status, _) = ann.delete(&path).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "Postgres has it");
    cluster.persister[0].kill9();
    // As a node that looked at the room before it was closed.
    let log = cluster.jetstream(service::nats::BrokerUser::Api).await;
    let shard = cluster.shard_of(room).await;
    let subject = format!("chat.{shard}.room.{room}.chat-message");
    let payload = json!({
        "message": "behind", "room": room, "user": "ann", "created_at": "2026-11-21T08:51:26.593514Z",
    });
    let ack = log.publish(subject, payload.to_string().into()).await.expect("sent");
    ack.await.expect("stored");
    cluster.persister[0].restart();
    cluster.wait_until_ready().await;
    let (status, page) = ann.get(&format!("{path}/messages")).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let ids: Vec<_> = page["results"].as_array().expect("a list").iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, [id]);
}
