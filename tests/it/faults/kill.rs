//! Kills processes under load, and starts them again: no acknowledged message is lost or doubled.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use tests::native;
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size},
    eventually,
    postgres::Postgres,
};

/// Sends `count` messages, each with its own key, and repeats each until it is acknowledged; returns their ids.
pub(super) async fn send_until_acknowledged(rest: Rest, room: u64, count: usize) -> BTreeSet<u64> {
    let mut ids = BTreeSet::new();
    for n in 0..count {
        let body = json!({ "message": n.to_string(), "client_id": format!("c-{n}") });
        let path = paths::messages(room);
        let id = eventually("a message is acknowledged", || async {
            let (status, message) = rest.send(Method::POST, &path, &body).await.ok()?;
            assert!(status.is_success() || status.as_u16() == 503, "{status} {message}");
            status.is_success().then(|| native::id(&message))
        });
        assert!(ids.insert(id.await), "no two messages may have the same id");
    }
    ids
}

pub(super) async fn rows(cluster: &Cluster, room: u64, count: usize) -> Vec<u64> {
    let pool = cluster.database.pool().await;
    eventually("Postgres has all messages", || async {
        let sql = "SELECT id FROM message WHERE room = $1 ORDER BY id";
        let rows: Vec<i64> =
            sqlx::query_scalar(sql).bind(i64::try_from(room).ok()?).fetch_all(&pool).await.ok()?;
        let rows: Vec<u64> = rows.into_iter().filter_map(|id| u64::try_from(id).ok()).collect();
        (rows.len() >= count).then_some(rows)
    })
    .await
}

pub(super) async fn receive_ids(socket: &mut Socket, count: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    while ids.len() < count {
        ids.push(socket.event("chat-message").await.id());
    }
    ids
}

pub(super) async fn follow(cluster: &Cluster, room: u64) -> Socket {
    let mut socket = cluster.socket(0, "bob").await;
    socket.subscribe_room(room).await;
    socket
}

const COUNT: usize = 300;

#[tokio::test]
async fn messages_survive_kills_of_the_persister() {
    let mut cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = follow(&cluster, room).await;
    let sending = tokio::spawn(send_until_acknowledged(ann, room, COUNT));
    for _ in 0..3 {
        receive_ids(&mut socket, COUNT / 6).await;
        cluster.persister[0].kill9();
        cluster.persister[0].restart();
    }
    let sent = sending.await.expect("the sender does not panic");
    let rows = rows(&cluster, room, COUNT).await;
    assert_eq!(rows, sent.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn standby_persister_takes_over() {
    let mut cluster = Cluster::start(Size { persister: 2, ..Size::default() }).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    // Either may be the leader, so both are killed, one after the other.
    for n in 0..2 {
        cluster.persister[n].kill9();
        ann.send_message(room, "hello").await;
        rows(&cluster, room, n + 1).await;
        cluster.persister[n].restart();
        cluster.persister[n].wait_until_ready().await;
    }
}

#[tokio::test]
async fn messages_survive_kills_of_an_api_node() {
    let mut cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let room = cluster.rest(1, "ann").create_room("general").await;
    let mut socket = follow(&cluster, room).await;
    let sending = tokio::spawn(send_until_acknowledged(cluster.rest(0, "ann"), room, COUNT));
    let mut received = receive_ids(&mut socket, COUNT / 3).await;
    cluster.api[0].kill9();
    cluster.api[0].restart();
    let sent: Vec<u64> = sending.await.expect("the sender does not panic").into_iter().collect();
    received.extend(receive_ids(&mut socket, COUNT - received.len()).await);
    assert_eq!(received, sent);
    assert_eq!(rows(&cluster, room, COUNT).await, sent);
}

#[tokio::test]
async fn sockets_resume_after_kills_of_a_fanout_node() {
    let mut cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = follow(&cluster, room).await;
    let sending = tokio::spawn(send_until_acknowledged(ann, room, COUNT));
    let mut received = receive_ids(&mut socket, COUNT / 3).await;
    cluster.fanout[0].kill9();
    drop(socket);
    let mut socket = cluster.socket(1, "bob").await;
    let since = json!({ "channel": format!("room-{room}"), "since": received.last() });
    assert_eq!(socket.act_ok("subscribe", since).await["recovered"], true);
    let sent: Vec<u64> = sending.await.expect("the sender does not panic").into_iter().collect();
    received.extend(receive_ids(&mut socket, COUNT - received.len()).await);
    assert_eq!(received, sent);
}

#[tokio::test]
async fn messages_survive_kills_of_the_broker() {
    let mut cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = follow(&cluster, room).await;
    let sending = tokio::spawn(send_until_acknowledged(ann, room, COUNT));
    let mut received = receive_ids(&mut socket, COUNT / 3).await;
    cluster.nats.kill9();
    cluster.nats.restart();
    let sent: Vec<u64> = sending.await.expect("the sender does not panic").into_iter().collect();
    // The socket stays open: its node reads the missed events from the log.
    received.extend(receive_ids(&mut socket, COUNT - received.len()).await);
    assert_eq!(received, sent);
    assert_eq!(rows(&cluster, room, COUNT).await, sent);
}

#[tokio::test]
async fn messages_survive_kills_of_postgres() {
    let mut postgres = Postgres::start();
    let cluster = Cluster::start_with(Size::default(), postgres.database(), &[]).await;
    let room = cluster.rest(0, "ann").create_room("general").await;
    let mut socket = cluster.socket(0, "ann").await;
    socket.join_room(room).await;
    postgres.kill9();
    let mut sent = Vec::new();
    for n in 0..20 {
        sent.push(socket.send_message(&n.to_string()).await);
    }
    assert_eq!(
        receive_ids(&mut socket, 20).await,
        sent,
        "a participant must be able to write while Postgres is down"
    );
    let (status, problem) = cluster.rest(0, "bob").get(&paths::messages(room)).await;
    assert_eq!((status.as_u16(), &problem["code"]), (503, &Value::from("unavailable")));
    postgres.restart();
    assert_eq!(rows(&cluster, room, 20).await, sent, "all acknowledged messages must be in Postgres");
}

#[tokio::test]
async fn stop_closes_sockets_with_a_reconnect_time() {
    let mut cluster = Cluster::start(Size::default()).await;
    let mut socket = cluster.socket(0, "bob").await;
    let node = cluster.fanout.remove(0);
    let stopping = tokio::task::spawn_blocking(move || {
        let mut node = node;
        node.terminate()
    });
    let closed = socket.next().await.expect_err("the node closes the socket").to_string();
    assert!(closed.contains("closed 4100"), "{closed}");
    drop(socket);
    assert_eq!(stopping.await.expect("the node stops").code(), Some(0));
    for mut node in [cluster.api.remove(0), cluster.persister.remove(0)] {
        assert_eq!(node.terminate().code(), Some(0));
    }
}
