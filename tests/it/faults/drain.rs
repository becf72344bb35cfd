//! Stopping a node that holds many sockets: each is told when to come back, within the drain time.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use tests::{
    client::Socket,
    cluster::{Cluster, Size, token},
    postgres::Database,
};

/// As many as the machine lets a process open, up to what the product promises.
fn sockets() -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).expect("a limit");
    usize::try_from(files).expect("small").saturating_sub(1_000).min(10_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_sockets_are_told_when_to_come_back() {
    // Each closing waits for its answer, and all clients are in this process.
    let time = [("ROOMCAST_DRAIN_SECONDS", "40")];
    let mut cluster = Cluster::start_with(Size::default(), Database::shared(), &time).await;
    let address = cluster.fanout[0].address();
    let count = sockets();
    let open = |n: usize| {
        let (address, token) = (address.clone(), token(&format!("user{}", n % 100)));
        async move { Socket::open(&address, &token).await.expect("the node takes sockets") }
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
    assert_eq!(stopping.await.expect("it stops").code(), Some(0));
}
