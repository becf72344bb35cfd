//! Tests bodies that are refused before they have arrived: the client gets the answer, not a reset.

use serde_json::Value;
use tests::{
    cluster::{Cluster, token},
    raw::Raw,
};
use tokio::task::JoinSet;

/// Longer than all buffers between client and server.
const LONG: usize = 12 << 20;

fn head(line: &str, token: &str, more: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{token}content-length: {LONG}\r\n\
         {more}\r\n"
    )
}

/// Address, head and expected status of requests with a long body.
fn requests(cluster: &Cluster) -> Vec<(String, String, u16)> {
    let bearer = format!("authorization: Bearer {}\r\n", token("ann"));
    let (api, fanout) = (cluster.api[0].address(), cluster.fanout[0].address());
    let mut requests = Vec::new();
    for (address, line, token, status) in [
        (&api, "POST /api/v1/rooms", &*bearer, 413),
        (&api, "POST /api/v1/rooms", "", 401),
        (&api, "POST /api/v2/room-control/", "", 413),
        (&api, "POST /room/add", &bearer, 413),
        (&api, "POST /nowhere", &bearer, 404),
        (&api, "DELETE /api/v1/rooms", &bearer, 405),
        (&fanout, "POST /ws/", &bearer, 405),
        (&fanout, "POST /nowhere", &bearer, 404),
    ] {
        requests.push((address.clone(), head(line, token, ""), status));
    }
    requests
}

/// Python's http.client sends all of the body before it reads anything.
#[tokio::test]
async fn client_that_sends_a_refused_body_completely_gets_the_answer() {
    let cluster = Cluster::shared().await;
    let body = vec![b'x'; LONG];
    let mut clients = JoinSet::new();
    for (address, head, status) in requests(&cluster) {
        for _ in 0..3 {
            let (address, head, body) = (address.clone(), head.clone(), body.clone());
            clients.spawn(async move {
                let mut raw = Raw::open(&address).await;
                raw.send(head.as_bytes()).await.expect("the server reads");
                raw.send(&body).await.unwrap_or_else(|error| panic!("{head}: {error}"));
                let answer = raw.answer().await;
                assert_eq!(answer.status, status, "{head}");
                assert_eq!(answer.header("connection"), Some("close"), "{}", answer.head);
                raw.closed().await;
            });
        }
    }
    while let Some(client) = clients.join_next().await {
        client.expect("the node answers");
    }
}

#[tokio::test]
async fn request_refused_by_its_header_is_not_asked_to_continue() {
    let cluster = Cluster::shared().await;
    let bearer = format!("authorization: Bearer {}\r\n", token("ann"));
    let expect = "expect: 100-continue\r\n";
    for (line, token, status) in [
        ("POST /api/v1/rooms", &*bearer, 413),
        ("POST /api/v1/rooms", "", 401),
        ("POST /api/v2/room-control/", "", 413),
        ("POST /room/add", &bearer, 413),
        ("POST /nowhere", "", 404),
    ] {
        let answer = Raw::ask(&cluster.api[0].address(), &head(line, token, expect)).await;
        assert_eq!(answer.status, status, "{line}");
    }
    // Pictures may have this length; the limit of any body is 32 MiB.
    let form = |length: usize| {
        format!(
            "POST /api/chat/ HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\n\
             {bearer}content-length: {length}\r\n{expect}\r\n"
        )
    };
    assert_eq!(Raw::ask(&cluster.api[0].address(), &form(LONG)).await.status, 100);
    assert_eq!(Raw::ask(&cluster.api[0].address(), &form((32 << 20) + 1)).await.status, 413);
    // A request that is not refused gets `100 Continue`.
    let body = r#"{"name":"general"}"#;
    let request = format!(
        "POST /api/v1/rooms HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{bearer}\
         content-length: {}\r\n{expect}\r\n",
        body.len()
    );
    let mut raw = Raw::open(&cluster.api[0].address()).await;
    raw.send(request.as_bytes()).await.expect("the server reads");
    assert_eq!(raw.answer().await.status, 100);
    raw.send(body.as_bytes()).await.expect("the server reads");
    let answer = raw.answer().await;
    let room: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((answer.status, &room["name"]), (201, &"general".into()));
}
