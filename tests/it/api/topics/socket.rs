//! Tests a topic's own address for sockets: the socket is in the topic from the start, and nowhere else.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::Socket,
    cluster::{Cluster, token},
};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Error;

#[tokio::test]
async fn topic_socket_is_in_the_topic_from_the_start() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let (status, made) = ann.post("/api/chat/", json!({ "title": "Harry Potter", "room": "films" })).await;
    assert_eq!(status, 200, "{made}");
    let chat = &made["chat"];
    let url = chat["url"].as_str().expect("an address");
    let open = async |path: &str| Socket::open_at(&cluster.fanout[0].address(), path, &token("bob")).await;
    let mut bob = open(url).await.expect("the socket opens");
    let joined = bob.next().await.expect("the first frame");
    assert_eq!((&joined["action"], &joined["response_status"]), (&json!("join_room"), &json!(200)));
    assert_eq!(joined["data"]["id"], chat["id"]);
    // A frame without room_pk means the socket's topic.
    let sent = bob.send_message("hello").await;
    let push = bob.event("chat-message").await;
    assert_eq!((push.id(), &json!(push.room())), (sent, &chat["id"]));

    for path in ["/chat/books/1/", "/chat/films/999999/", "/chat/films/x/", "/chat/nowhere/1/"] {
        match open(path).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status().as_u16(), 404, "{path}"),
            other => panic!("{path}: {:?}", other.map(|_| "a socket")),
        }
    }
}

/// Such a client waits for the upgrade alone, so its socket must be in the topic by then.
#[tokio::test]
async fn message_stored_right_after_the_upgrade_is_pushed_to_a_topic_socket() {
    const TOPICS: usize = 25;
    const SOCKETS: usize = 20;
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let mut clients = JoinSet::new();
    for n in 0..TOPICS {
        let body = json!({ "title": format!("Topic {n}"), "room": "films" });
        let (status, made) = ann.post("/api/chat/", body).await;
        assert_eq!(status, 200, "{made}");
        let (room, url) = (tests::native::id(&made["chat"]), made["chat"]["url"].clone());
        let (ann, address) = (ann.clone(), cluster.fanout[n % 2].address());
        clients.spawn(async move {
            let url = url.as_str().expect("an address");
            for _ in 0..SOCKETS {
                let mut bob = Socket::open_at(&address, url, &token("bob")).await.expect("the socket opens");
                let id = ann.send_message(room, "right after the upgrade").await;
                let push = bob.event("chat-message").await;
                assert_eq!(push.id(), id, "the first message after the upgrade");
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.expect("every message is pushed");
    }
}

#[tokio::test]
async fn socket_of_a_closed_topic_is_refused_before_the_upgrade() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let (_, made) = ann.post("/api/chat/", json!({ "title": "Dune", "room": "films" })).await;
    let (room, url) = (made["chat"]["id"].clone(), made["chat"]["url"].as_str().expect("an address"));
    let closed = ann.send(Method::DELETE, &paths::room(room), &Value::Null).await;
    assert_eq!(closed.expect("the node answers").0, StatusCode::NO_CONTENT);
    match Socket::open_at(&cluster.fanout[0].address(), url, &token("bob")).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status().as_u16(), 409),
        other => panic!("{:?}", other.map(|_| "a socket")),
    }
}
