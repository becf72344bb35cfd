//! A topic's own address for sockets: in the topic from the start, and nowhere else.

use serde_json::json;
use tests::{
    client::Socket,
    cluster::{Cluster, Size, token},
};
use tokio_tungstenite::tungstenite::Error;

#[tokio::test]
async fn its_socket_is_in_the_topic_from_the_start() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let (status, made) = ann.post("/api/chat/", json!({ "title": "Harry Potter", "room": "films" })).await;
    assert_eq!(status, 200, "{made}");
    let chat = &made["chat"];
    let url = chat["url"].as_str().expect("an address");
    let open = async |path: &str| Socket::open_at(&cluster.fanout[0].address(), path, &token("bob")).await;
    let mut bob = open(url).await.expect("it opens");
    let joined = bob.next().await.expect("the first frame");
    assert_eq!((&joined["action"], &joined["response_status"]), (&json!("join_room"), &json!(200)));
    assert_eq!(joined["data"]["id"], chat["id"]);
    // The topic is meant where none is named.
    let sent = bob.must("create_message", json!({ "msg_text": "hello" })).await;
    let push = bob.event("chat-message").await.expect("a push");
    assert_eq!((&push["id"], &push["data"]["room"]), (&sent["id"], &chat["id"]));

    for path in ["/chat/books/1/", "/chat/films/999999/", "/chat/films/x/", "/chat/nowhere/1/"] {
        match open(path).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status().as_u16(), 404, "{path}"),
            other => panic!("{path}: {:?}", other.map(|_| "a socket")),
        }
    }
}
