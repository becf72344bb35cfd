//! Plays the examples of the dialect's page.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tests::{
    cluster::{Cluster, Size},
    is_like, page,
};

use super::{agent, visitor};

/// Key in the examples. The test replaces it by the key that the server gives.
const EXAMPLE: &str = "64e96a73f59c079a226e1ae9";

#[tokio::test]
async fn examples_of_the_support_page_are_answered_as_shown() {
    let page = include_str!("../../../../api/docs/support.md");
    let cluster = Cluster::start(Size::default()).await;
    let mut key = EXAMPLE.to_owned();
    let (mut answer, mut played) = (Value::Null, 0);
    for line in page::block(page, "examples").lines() {
        if let Some(request) = line.strip_prefix("> ") {
            let mut words = request.splitn(3, ' ');
            let method: Method = words.next().and_then(|word| word.parse().ok()).expect("a method");
            let path = words.next().expect("a path").replace(EXAMPLE, &key);
            let body = words
                .next()
                .map_or(Ok(Value::Null), |body| serde_json::from_str(&body.replace(EXAMPLE, &key)));
            let is_agents = path.contains("room-list");
            let rest = if is_agents { agent(&cluster, "DOWELL12345") } else { visitor(&cluster, 0) };
            let (status, body) =
                rest.send(method, &path, &body.expect("JSON")).await.expect("the node answers");
            assert_eq!(status, StatusCode::OK, "{request}: {body}");
            if let Some(made) = body["inserted_id"].as_str() {
                made.clone_into(&mut key);
            }
            answer = body;
        } else {
            let example = line.strip_prefix("< ").expect("a line of the answer");
            let example: Value = serde_json::from_str(&example.replace(EXAMPLE, &key)).expect("JSON");
            assert!(is_like(&answer, &example), "{answer} is not like {example}");
            assert_eq!((&answer["success"], &answer["message"]), (&example["success"], &example["message"]));
            played += 1;
        }
    }
    assert_eq!(played, 7);
}
