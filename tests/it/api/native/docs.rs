//! Plays the examples of the native page.

use reqwest::Method;
use serde_json::Value;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size},
    is_like, page,
};

/// Room id in the examples. The test replaces it by the one that the server gives.
const ROOM: &str = "4200";

/// A person of the examples, with a client and a socket.
struct Person {
    name: &'static str,
    rest: Rest,
    socket: Socket,
}

impl Person {
    async fn of(cluster: &Cluster, name: &'static str) -> Self {
        Self { name, rest: cluster.rest(0, name), socket: cluster.socket(0, name).await }
    }

    /// Sends a request or an action of the page; returns its answer.
    async fn act(&mut self, verb: &str, words: &str) -> Value {
        if verb == "sends" {
            let frame: Value = serde_json::from_str(words).expect("a frame");
            let action = frame["action"].as_str().expect("an action").to_owned();
            return self.socket.act(&action, frame).await.frame().clone();
        }
        let (path, body) = words.split_once(' ').expect("a path and a body");
        let method: Method = verb.parse().expect("a method");
        let body = serde_json::from_str(body).expect("JSON");
        let (status, answer) = self.rest.send(method, path, &body).await.expect("the node answers");
        assert!(status.is_success(), "{words}: {answer}");
        answer
    }

    /// Next push to the socket with the event of the example.
    async fn hears(&mut self, example: &Value) -> Value {
        let event = example["event"].as_str().expect("an event");
        let push = self.socket.event(event).await;
        assert_eq!(example["channel"], push.channel);
        push.frame().clone()
    }
}

fn named<'a>(people: &'a mut [Person], name: &str) -> &'a mut Person {
    people.iter_mut().find(|person| person.name == name).expect("a person of the examples")
}

#[tokio::test]
async fn examples_of_the_native_page_are_answered_and_pushed_as_shown() {
    let cluster = Cluster::start(Size::default()).await;
    let mut people = [Person::of(&cluster, "ann").await, Person::of(&cluster, "bob").await];
    let (mut room, mut answer, mut played) = (ROOM.to_owned(), Value::Null, 0);
    for line in page::block(include_str!("../../../../api/docs/native.md"), "examples").lines() {
        let (direction, text) = line.split_at(2);
        if direction == "> " {
            let text = text.replace(ROOM, &room);
            let (who, words) = text.split_once(' ').expect("a name");
            let (verb, words) = words.split_once(' ').expect("a verb");
            answer = named(&mut people, who).act(verb, words).await;
            if words.starts_with("/api/v1/rooms ") {
                room = answer["id"].to_string();
            }
            continue;
        }
        let text = text.replace(ROOM, &room);
        let (who, example) = text.split_once(" hears ").unwrap_or(("", &text));
        let example: Value = serde_json::from_str(example).expect("JSON");
        let found =
            if who.is_empty() { answer.clone() } else { named(&mut people, who).hears(&example).await };
        assert!(is_like(&found, &example), "{found} is not like {example}");
        played += 1;
    }
    assert_eq!(played, 11);
}
