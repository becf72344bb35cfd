//! Plays the examples of the dialect's page, and compares its table of differences.

use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, Size},
    is_like,
    original::differences,
    page,
};

use super::{Match, matched, one, two};

const PAGE: &str = include_str!("../../../../api/docs/match.md");

/// Plays the page's frames in a room of the first two brands. Returns how many were answered as documented, and the
/// actions that this kind of socket does not take.
async fn play(cluster: &Cluster, path: &str, claims: &Value) -> (usize, Vec<Value>) {
    // The tokens contain the brands' profiles.
    for person in [one(), two()] {
        Match::open(cluster, 0, &person).await;
    }
    let room = matched(cluster, ["1", "2"]).await;
    matched(cluster, ["1", "3"]).await;
    let mut socket = Match::open_at(cluster, 0, path, claims).await;
    let (mut message, mut answer, mut played, mut refused) = (Value::Null, Value::Null, 0, vec![]);
    for line in page::block(PAGE, "frames").lines() {
        let (direction, frame) = line.split_at(2);
        let mut frame: Value = serde_json::from_str(frame).expect("a frame");
        if direction == "> " {
            // The ids in the examples are replaced by the server's.
            for (key, id) in
                [("room_pk", json!(room)), ("msg_id", message.clone()), ("msg_id_list", json!([message]))]
            {
                if frame.get(key).is_some() {
                    frame[key] = id;
                }
            }
            answer = socket.ask(frame).await;
            if answer["action"] == "create_message" {
                message = answer["data"]["id"].clone();
            }
        } else if answer["response_status"] == 405 {
            refused.push(answer["action"].take());
        } else {
            assert!(is_like(&answer, &frame), "{answer} is not like {frame}");
            for key in ["action", "response_status", "request_id"] {
                assert_eq!(answer[key], frame[key]);
            }
            played += 1;
        }
    }
    (played, refused)
}

#[tokio::test]
async fn examples_of_the_match_page_are_answered_as_shown() {
    let cluster = Cluster::start(Size::default()).await;
    assert_eq!(play(&cluster, "/ws/chat/", &one()).await, (7, vec![]));
}

#[tokio::test]
async fn admins_get_the_same_answers_except_for_one_action() {
    let cluster = Cluster::start(Size::default()).await;
    let admin = json!({ "user_id": 9, "is_admin": true });
    assert_eq!(play(&cluster, "/ws/admin-chat/", &admin).await, (6, vec![json!("current_room_info")]));
}

#[test]
fn differences_listed_on_the_match_page_are_those_compared() {
    assert_eq!(page::table(PAGE, "Where it differs from the original"), differences("compare_match.py"));
}
