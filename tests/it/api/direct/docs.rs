//! Plays the examples of the dialect's page.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tests::{
    client::Socket,
    cluster::{Cluster, Size, sign},
    eventually, is_like, page,
};

use super::{claims, get, person};

/// Ids in the examples. The test replaces them by those that the server gives.
const ROOM: &str = "1400";
const MESSAGE: &str = "9000";

#[tokio::test]
async fn examples_of_the_direct_page_are_answered_as_shown() {
    let page = include_str!("../../../../api/docs/direct.md");
    let cluster = Cluster::start(Size::default()).await;
    let rest = person(&cluster, 0, 7);
    let _other =
        Socket::open(&cluster.fanout[0].address(), &sign(&claims(26))).await.expect("the socket opens");
    eventually("the other person is online", || async {
        (get(&rest, &tests::paths::user(26)).await["is_online"] == true).then_some(())
    })
    .await;
    let (mut room, mut message) = (ROOM.to_owned(), MESSAGE.to_owned());
    let (mut answer, mut played) = (Value::Null, 0);
    for line in page::block(page, "examples").lines() {
        let (direction, text) = line.split_at(2);
        if direction == "> " {
            let text = text.replace(ROOM, &room);
            let mut words = text.splitn(3, ' ');
            let method: Method = words.next().and_then(|word| word.parse().ok()).expect("a method");
            let path = words.next().expect("a path");
            let body: Value =
                words.next().map_or(Value::Null, |body| serde_json::from_str(body).expect("JSON"));
            let (status, body) = rest.send(method, path, &body).await.expect("the node answers");
            assert_eq!(status, StatusCode::OK, "{text}: {body}");
            if path == "/room/add" {
                room = body["id"].to_string();
            } else if let Some(sent) =
                body["messages"].as_object().and_then(|messages| messages.keys().next())
            {
                message.clone_from(sent);
            }
            answer = body;
        } else {
            let example = text.replace(ROOM, &room).replace(MESSAGE, &message);
            let example: Value = serde_json::from_str(&example).expect("JSON");
            assert!(is_like(&answer, &example), "{answer} is not like {example}");
            played += 1;
        }
    }
    assert_eq!(played, 8);
}
