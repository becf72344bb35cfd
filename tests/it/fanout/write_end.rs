//! Tests rooms that are closed, or made private, while users write: exactly the acknowledged messages are stored and
//! pushed.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::json;
use tests::native;
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size},
};
use tokio::task::JoinSet;

/// Number of rooms that are closed, one after the other.
const ROOMS: usize = 6;
/// Number of messages of each writer before a room is closed.
const MESSAGES_BEFORE: usize = 5;

async fn join(cluster: &Cluster, node: usize, user: &str, room: u64) -> Socket {
    let mut socket = cluster.socket(node, user).await;
    socket.join_room(room).await;
    socket
}

/// Writes over HTTP until the room is closed; returns the acknowledged ids.
async fn write_over_http(
    rest: Rest,
    room: u64,
    begin_sender: tokio::sync::mpsc::Sender<()>,
) -> BTreeSet<u64> {
    let mut stored = BTreeSet::new();
    loop {
        let body = json!({ "message": "over HTTP" });
        let (status, answer) = rest.post(&paths::messages(room), body).await;
        match status {
            StatusCode::CREATED => stored.insert(native::id(&answer)),
            StatusCode::CONFLICT if answer["detail"] == "This room is closed." => return stored,
            _ => panic!("{answer}"),
        };
        if stored.len() == MESSAGES_BEFORE {
            begin_sender.send(()).await.expect("the test receives");
        }
    }
}

/// Writes by a socket until the room is closed; returns the acknowledged ids.
async fn write_over_socket(
    mut socket: Socket,
    room: u64,
    begin_sender: tokio::sync::mpsc::Sender<()>,
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
        if stored.len() == MESSAGES_BEFORE {
            begin_sender.send(()).await.expect("the test receives");
        }
    }
}

/// Receives until the room is closed; returns the ids of all pushed messages.
async fn receive_until_closed(mut socket: Socket) -> BTreeSet<u64> {
    let mut received = BTreeSet::new();
    loop {
        let push = socket.push().await;
        match &*push.event {
            "chat-message" => drop(received.insert(push.id())),
            "unsubscribed" => return received,
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
            listeners.spawn(receive_until_closed(socket));
        }
        let (begin_sender, mut begin_receiver) = tokio::sync::mpsc::channel(5);
        let mut writers = JoinSet::new();
        for node in 0..2 {
            let socket = join(&cluster, node, &format!("socket-{node}"), room).await;
            writers.spawn(write_over_socket(socket, room, begin_sender.clone()));
            let rest = cluster.rest(node, &format!("http-{node}"));
            writers.spawn(write_over_http(rest, room, begin_sender.clone()));
        }
        writers.spawn(write_over_http(cluster.rest(n % 2, "http-2"), room, begin_sender.clone()));
        for _ in 0..5 {
            begin_receiver.recv().await.expect("each writer reports that it has begun");
        }
        let path = paths::room(room);
        let closer = cluster.rest(n % 2, "ann");
        let (status, _) = closer.delete(&path).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        let acknowledged: BTreeSet<u64> = writers.join_all().await.into_iter().flatten().collect();
        for received in listeners.join_all().await {
            assert_eq!(
                received, acknowledged,
                "room {room}: sockets must get exactly the acknowledged messages"
            );
        }
        // A page of history waits until all acknowledged messages are in Postgres.
        assert_eq!(ann.get(&paths::messages(room)).await.0, StatusCode::OK);
        let rows: Vec<i64> = sqlx::query_scalar("SELECT id FROM message WHERE room = $1")
            .bind(i64::try_from(room).expect("a small number"))
            .fetch_all(&pool)
            .await
            .expect("the query succeeds");
        let rows: BTreeSet<u64> = rows.into_iter().map(|id| id.try_into().expect("a valid id")).collect();
        assert_eq!(rows, acknowledged, "room {room}: Postgres must have exactly the acknowledged messages");
    }
}

#[tokio::test]
async fn socket_of_a_removed_person_may_not_write_once_the_removal_is_acknowledged() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    for n in 0..10 {
        let room = ann.create_room("open").await;
        let path = paths::room(room);
        let mut bob = join(&cluster, n % 2, "bob", room).await;
        bob.send_message_to(room, "hi").await;
        let answer = if n % 2 == 0 {
            ann.patch(&path, json!({ "private": true })).await
        } else {
            ann.delete(&path).await
        };
        assert!(answer.0.is_success(), "{answer:?}");
        let answer = bob.act("create_message", json!({ "room_pk": room, "msg_text": "late" })).await;
        let status = if n % 2 == 0 { 404 } else { 409 };
        assert_eq!(answer.status, status, "{answer}");
        let messages = ann.messages(room).await;
        assert_eq!(messages.len(), 1, "{messages:?}");
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
    assert_eq!(status, StatusCode::NO_CONTENT, "the closing must be acknowledged as applied to Postgres");
    cluster.persister[0].kill9();
    // Appends a message like a node that checked access before the room was closed.
    let log = cluster.jetstream(service::nats::BrokerUser::Api).await;
    let shard = cluster.shard_of(room).await;
    let subject = format!("chat.{shard}.room.{room}.chat-message");
    let payload = json!({
        "message": "behind", "room": room, "user": "ann", "created_at": "2026-11-21T08:51:26.593514Z",
    });
    let ack = log.publish(subject, payload.to_string().into()).await.expect("the message is published");
    ack.await.expect("the event is stored");
    cluster.persister[0].restart();
    cluster.wait_until_ready().await;
    let ids: Vec<_> = ann.messages(room).await.iter().map(|message| message.id).collect();
    assert_eq!(ids, [id]);
}
