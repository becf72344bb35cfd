//! Plays the examples of the dialect's page, and compares its table of differences.

use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tests::{
    client::Rest,
    cluster::{Cluster, Size},
    is_like,
    original::differences,
    page,
};

use super::{answer, form, named};

const PAGE: &str = include_str!("../../../../api/docs/topics.md");
/// Id in the examples. The test replaces it by the one that the server gives.
const ID: &str = "700";

/// A text of the page with its abbreviations written out.
fn whole(text: &str, id: &str) -> String {
    let text = text.replace(ID, id);
    [71, 401].iter().fold(text, |text, n| text.replace(&format!("<{n} characters>"), &"x".repeat(*n)))
}

/// Plays the examples; `write` adds the body to a request.
async fn play(write: fn(RequestBuilder, &Value) -> RequestBuilder) {
    let cluster = Cluster::start(Size::default()).await;
    let (ann, bob) = (named(&cluster, 0, "1", "ann"), named(&cluster, 0, "2", "bob"));
    let nobody = Rest::without_token(&cluster.api[0].address());
    let (mut id, mut answered, mut played) = (ID.to_owned(), (0, Value::Null), 0);
    for line in page::block(PAGE, "examples").lines() {
        let (direction, text) = line.split_at(2);
        let text = whole(text, &id);
        if direction == "> " {
            let [who, method, address, body] = words(&text);
            let rest = [("ann", &ann), ("bob", &bob), ("nobody", &nobody)]
                .into_iter()
                .find(|(name, _)| *name == who);
            let (_, rest) = rest.expect("a person of the examples");
            let method: Method = method.parse().expect("a method");
            let request = rest.request(method, address);
            let request = if body.is_empty() {
                request
            } else {
                write(request, &serde_json::from_str(body).expect("JSON"))
            };
            let (status, body) = answer(request).await;
            answered = (status, serde_json::from_str(&body).expect("JSON"));
            if id == ID {
                id = answered.1["chat"]["id"].to_string();
            }
        } else {
            let (status, example) = text.split_once(' ').expect("a status");
            let (status, example): (u16, Value) =
                (status.parse().expect("a number"), serde_json::from_str(example).expect("JSON"));
            assert_eq!(answered.0, status, "{}: {text}", answered.1);
            if status == 200 {
                assert!(is_like(&answered.1, &example), "{} is not like {example}", answered.1);
            } else {
                assert_eq!(answered.1, example);
            }
            played += 1;
        }
    }
    assert_eq!(played, 13);
}

/// Splits a line into user, method, path and body, which may be empty.
fn words(line: &str) -> [&str; 4] {
    let mut words = line.splitn(4, ' ');
    std::array::from_fn(|_| words.next().unwrap_or(""))
}

#[tokio::test]
async fn examples_of_the_topics_page_as_json_are_answered_as_shown() {
    play(|request, body| request.json(body)).await;
}

#[tokio::test]
async fn examples_of_the_topics_page_as_forms_are_answered_as_shown() {
    play(|request, body| {
        let fields = body.as_object().expect("fields").iter();
        let fields: Vec<_> =
            fields.map(|(name, text)| (name.as_str(), text.as_str().expect("a text"))).collect();
        form(request, &fields)
    })
    .await;
}

#[test]
fn differences_listed_on_the_topics_page_are_those_compared() {
    assert_eq!(page::table(PAGE, "Where it differs from the original"), differences("compare_topics.py"));
}
