//! Tests `/metrics`: what a node did is there, under the names that dashboards and alerts use.

use serde_json::json;
use service::metric_names as names;
use tests::{
    cluster::{Cluster, Node, Size},
    eventually,
};

/// Waits until a node's metrics contain all `expected` lines.
async fn wait_for_metrics(node: &Node, expected: &[&str]) {
    for name in expected {
        eventually(&format!("{name} is on /metrics"), || async {
            let metrics = node.metrics().await;
            let mut lines = metrics.lines().filter(|line| !line.starts_with('#'));
            lines.any(|line| line.starts_with(name)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn metrics_of_every_node_show_a_conversation() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut socket = cluster.socket(0, "bob").await;
    socket.join_room(room).await;
    socket.send_message("hello").await;
    ann.send_message(room, "hello").await;
    for _ in 0..2 {
        socket.event("chat-message").await;
    }
    let refused = socket.act("join_room", json!({ "room_pk": room + 1 })).await;
    assert_eq!(refused.status, 404);

    wait_for_metrics(
        &cluster.api[0],
        &[
            names::APPEND_SECONDS,
            "roomcast_appends_total{outcome=\"stored\"}",
            names::RPC_SERVED_SECONDS,
            names::HTTP_SECONDS,
            "roomcast_http_requests_total{",
        ],
    )
    .await;
    wait_for_metrics(
        &cluster.fanout[0],
        &[
            "roomcast_sockets_open 1",
            "roomcast_socket_handshakes_total{outcome=\"accepted\"} 1",
            "roomcast_socket_frames_received_total 3",
            "roomcast_resumes_total{outcome=\"new\"} 1",
            "roomcast_participants 1",
            "roomcast_people_online 1",
            names::DELIVERIES_TOTAL,
            names::DELIVERED_BYTES_TOTAL,
            names::RPC_SECONDS,
        ],
    )
    .await;
    wait_for_metrics(
        &cluster.persister[0],
        &[
            names::PERSISTER_LAG_MESSAGES,
            names::PERSISTER_LAG_SECONDS,
            names::PERSISTER_BATCH_EVENTS,
            names::PERSISTER_COMMIT_SECONDS,
            names::PERSISTER_WATERMARK,
            names::PERSISTER_LEADING,
            names::PERSISTER_SESSIONS,
            names::SEARCH_INDEXED_TOTAL,
            names::SEARCH_LAG_SECONDS,
            names::LOG_BYTES,
            names::LOG_MAX_BYTES,
        ],
    )
    .await;
    let metrics = cluster.fanout[0].metrics().await;
    assert!(metrics.contains("# HELP roomcast_sockets_open Sockets open now."), "{metrics}");
    // Gauges of open sockets go down again.
    drop(socket);
    wait_for_metrics(
        &cluster.fanout[0],
        &["roomcast_sockets_open 0", "roomcast_participants 0", "roomcast_people_online 0"],
    )
    .await;
}
