//! Tests a broker cluster of three servers, which works without any one of them.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tests::native;
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size, program},
    folder::Folder,
    nats::{self, Nats},
    postgres::Database,
    process::{Process, command},
};

use super::kill::{follow, receive_ids, rows};

/// Documented maximum time of an election, in which a shard has no leader and nothing is appended.
/// A server waits 4 to 9 s before it stands for election, and a split vote needs a second round.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(20);

/// Sends messages until `stop`, and repeats each until it is acknowledged; returns the ids and the longest wait.
async fn send(rest: Rest, room: u64, stop: tokio::sync::oneshot::Receiver<()>) -> (Vec<u64>, Duration) {
    let (mut ids, mut longest, mut stop) = (Vec::new(), Duration::ZERO, stop);
    while stop.try_recv().is_err() {
        let body = json!({ "message": "m", "client_id": ids.len().to_string() });
        let start = Instant::now();
        loop {
            let path = paths::messages(room);
            let answer = rest.send(Method::POST, &path, &body).await;
            let (status, message) = answer.expect("api answers every request");
            if status.is_success() {
                ids.push(native::id(&message));
                break;
            }
            assert_eq!(status, 503, "{message}");
        }
        longest = longest.max(start.elapsed());
    }
    (ids, longest)
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "prints how close the longest wait is to its maximum")]
async fn cluster_of_three_survives_kills_of_each_server() {
    if !nats::has_safe_clusters() {
        return expect_old_cluster_refused().await;
    }
    let mut cluster = Cluster::start_on_broker_cluster(Size { fanout: 2, ..Size::default() }).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = follow(&cluster, room).await;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let sending = tokio::spawn(send(ann, room, stopped));
    let mut received = receive_ids(&mut socket, 50).await;
    for n in 0..3 {
        cluster.nats.kill9_server(n);
        // The socket stays open: its node reads events that it missed in an election from the log.
        received.extend(receive_ids(&mut socket, 50).await);
        cluster.nats.restart_server(n);
        received.extend(receive_ids(&mut socket, 200).await);
        cluster.wait_until_ready().await;
    }
    stop.send(()).expect("the sender runs");
    let (sent, longest) = sending.await.expect("the sender does not panic");
    received.extend(receive_ids(&mut socket, sent.len() - received.len()).await);
    assert_eq!(received, sent);
    assert_eq!(rows(&cluster, room, sent.len()).await, sent);
    assert!(longest < ELECTION_TIMEOUT, "no write may wait longer than an election: {longest:?}");
    println!("three servers, each killed once: {} messages, the longest waited {longest:.1?}", sent.len());
}

/// Checks that the persister refuses to start on a cluster older than 2.12.3, which can lose or double messages.
async fn expect_old_cluster_refused() {
    let (nats, database, folder) = (Nats::start().await, Database::shared(), Folder::new());
    let mut command = command(&program("roomcast-persister"));
    command.env("NATS_URL", nats.url("persister")).env("ROOMCAST_REPLICAS", "3");
    command.env("DATABASE_URL", database.url("roomcast_persister"));
    let mut process = Process::start("persister", folder.path(), &mut command);
    let status = tests::eventually("the persister ends", || std::future::ready(process.ended())).await;
    assert!(!status.success());
    assert!(process.tail().contains("before 2.12.3 a cluster can lose"), "{}", process.tail());
}
