//! Checks that connections with an incomplete or oversized request are ended on every port.

use futures_util::future::join_all;
use tests::{
    cluster::{Cluster, Size},
    machine::Machine,
    raw::Raw,
};

/// One port of each kind that serves HTTP.
fn ports(cluster: &Cluster, machine: &Machine) -> [String; 4] {
    [cluster.api[0].address(), cluster.fanout[0].address(), machine.address(), machine.admin()]
}

#[tokio::test]
async fn connection_without_a_whole_request_is_closed_on_every_port() {
    let (cluster, machine) = (Cluster::start(Size::default()).await, Machine::start().await);
    let beginnings = [
        "",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "PRI * HTTP/2.0\r\n",
        "PRI",
        "\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\n",
        // A whole request and its answer, then silence.
        "GET /nowhere HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ];
    let mut waiting = Vec::new();
    for port in ports(&cluster, &machine) {
        for beginning in beginnings {
            let mut raw = Raw::open(&port).await;
            raw.send(beginning.as_bytes()).await.expect("the server reads");
            waiting.push(async move { raw.closed().await });
        }
    }
    // Each fails the test if the server does not close the connection.
    join_all(waiting).await;
    let metrics = cluster.api[0].metrics().await;
    let has = |start: &str| metrics.lines().any(|line| line.starts_with(start));
    assert!(has("roomcast_http_connections_ended_total{cause=\"silent\"} "), "{metrics}");
    assert!(has("roomcast_http_connections_open "), "{metrics}");
}

#[tokio::test]
async fn header_beyond_its_bounds_is_refused() {
    let (cluster, machine) = (Cluster::start(Size::default()).await, Machine::start().await);
    for port in ports(&cluster, &machine) {
        let ask = async |more: &str| {
            let request =
                format!("GET /nowhere HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{more}\r\n");
            Raw::ask(&port, &request).await.status
        };
        assert_eq!(ask(&format!("x: {}\r\n", "x".repeat(24 << 10))).await, 404, "{port}");
        assert_eq!(ask(&format!("x: {}\r\n", "x".repeat(32 << 10))).await, 431, "{port}");
        assert_eq!(ask(&"x: x\r\n".repeat(101)).await, 431, "{port}");
    }
}
