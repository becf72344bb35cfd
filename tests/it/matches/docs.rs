//! The examples of the dialect's page, played.

use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, Size},
    is_like,
};

use super::{Match, matched, one};

#[tokio::test]
async fn the_pages_frames_are_answered_as_it_says() {
    let page = include_str!("../../../api/docs/match.md");
    let frames = page.split("```frames\n").nth(1).and_then(|rest| rest.split("```").next()).expect("frames");
    let cluster = Cluster::start(Size::default()).await;
    let room = matched(&cluster, ["1", "2"]).await;
    let mut socket = Match::open(&cluster, 0, &one()).await;
    let (mut message, mut answer, mut played) = (Value::Null, Value::Null, 0);
    for line in frames.lines() {
        let (direction, frame) = line.split_at(2);
        let mut frame: Value = serde_json::from_str(frame).expect("a frame");
        if direction == "> " {
            // Ids are the server's to give.
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
        } else {
            assert!(is_like(&answer, &frame), "{answer} is not like {frame}");
            for key in ["action", "response_status", "request_id"] {
                assert_eq!(answer[key], frame[key]);
            }
            played += 1;
        }
    }
    assert_eq!(played, 7);
}
