//! Tests the stop of a node: its sockets get a time to reconnect, and its open requests are answered.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, future::join_all, stream};
use serde_json::json;
use service::metric_names::{RPC_ERRORS_TOTAL, RPC_RETRIES_TOTAL};
use tests::{
    client::Socket,
    cluster::{Cluster, Size, token},
    postgres::Database,
};
use tokio::sync::watch;

/// Number of sockets to open: as many as the limit of open files allows, at most the documented 10,000.
fn sockets() -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).expect("the limit is raised");
    usize::try_from(files).expect("a small number").saturating_sub(1_000).min(10_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_of_ten_thousand_sockets_spreads_their_reconnects() {
    // The node waits for the answer to each close frame, and all clients are in this process.
    let time = [("ROOMCAST_DRAIN_SECONDS", "40")];
    let mut cluster = Cluster::start_with(Size::default(), Database::shared(), &time).await;
    let address = cluster.fanout[0].address();
    let count = sockets();
    let open = |n: usize| {
        let (address, token) = (address.clone(), token(&format!("user{}", n % 500)));
        async move { Socket::open(&address, &token).await.expect("the node accepts a socket") }
    };
    let sockets: Vec<Socket> = stream::iter(0..count).map(open).buffer_unordered(64).collect().await;
    let node = cluster.fanout.remove(0);
    let stopping = tokio::task::spawn_blocking(move || {
        let mut node = node;
        node.terminate()
    });
    let ends: Vec<String> = stream::iter(sockets)
        .map(|mut socket| async move {
            loop {
                if let Err(end) = socket.next().await {
                    return end.to_string();
                }
            }
        })
        .buffer_unordered(count)
        .collect()
        .await;
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    for end in ends {
        *codes.entry(end).or_default() += 1;
    }
    assert_eq!(codes, BTreeMap::from([("IO error: closed 4100".to_owned(), count)]));
    assert_eq!(stopping.await.expect("the node stops").code(), Some(0));
}

/// Number of sockets that send one request after the other.
const CLIENTS: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_api_node_answers_all_open_requests() {
    let mut cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let room = cluster.rest(0, "ann").create_room("general").await;
    let (stop, stopped) = watch::channel(false);
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let mut socket = cluster.socket(0, &format!("user{n}")).await;
        let stopped = stopped.clone();
        clients.push(tokio::spawn(async move {
            let mut answers = 0;
            while !*stopped.borrow() {
                socket.act_ok("current_room_info", json!({ "room_pk": room })).await;
                answers += 1;
            }
            answers
        }));
    }
    for n in [0, 1, 0, 1] {
        let mut node = cluster.api.remove(n);
        let stopped_node = tokio::task::spawn_blocking(move || (node.terminate(), node)).await;
        let (status, mut node) = stopped_node.expect("the node stops");
        assert_eq!(status.code(), Some(0), "{}", node.tail());
        node.restart();
        node.wait_until_ready().await;
        cluster.api.insert(n, node);
    }
    stop.send_replace(true);
    let answers = join_all(clients).await;
    let answers: Vec<u32> =
        answers.into_iter().map(|answers| answers.expect("each request is answered 200")).collect();
    assert!(answers.iter().all(|answers| *answers > 10), "{answers:?}");
    let metrics = cluster.fanout[0].metrics().await;
    let failed = |line: &&str| line.starts_with(RPC_RETRIES_TOTAL) || line.starts_with(RPC_ERRORS_TOTAL);
    assert_eq!(
        metrics.lines().filter(failed).collect::<Vec<_>>(),
        [""; 0],
        "fanout must not repeat a request"
    );
}
