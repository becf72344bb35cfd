//! Checks that malformed frames are answered in the envelope and that the socket stays open.

use serde_json::{Value, json};
use tests::cluster::Cluster;

#[tokio::test]
async fn frame_that_api_can_not_read_is_answered_with_its_action() {
    let cluster = Cluster::shared().await;
    let room = cluster.rest(0, "ann").create_room("general").await;
    let mut socket = cluster.socket(0, "ann").await;
    socket.join_room(room).await;
    socket.event("participant-join").await;
    for (action, body, error) in [
        ("join_room", json!({ "room_pk": "one" }), "room_pk"),
        ("join_room", json!({ "room_pk": -1 }), "room_pk"),
        ("subscribe", json!({ "channel": "nowhere" }), "channel"),
        ("subscribe", json!({ "channel": 5 }), "channel"),
        ("subscribe", json!({ "channel": format!("room-{room}"), "since": "x" }), "since"),
        ("create_message", json!({}), "msg_text"),
        ("create_message", json!({ "msg_text": [] }), "msg_text"),
        ("create_message", json!({ "msg_text": " " }), "m"),
        ("create_message", json!({ "msg_text": "a", "client_id": "ü" }), "client_id"),
        ("edit_message", json!({ "edited_msg_text": "a" }), "msg_id"),
        ("delete_messages", json!({ "msg_id_list": [] }), "msg_id_list"),
        ("delete_messages", json!({ "msg_id_list": 1 }), "msg_id_list"),
        ("leave_room", json!({ "room_pk": room + 1 }), "room_pk"),
    ] {
        let answer = socket.act(action, body.clone()).await;
        assert_eq!((answer.status, &answer.data), (400, &Value::Null), "{body}");
        assert_eq!(answer.action, action);
        assert!(answer.refusal().1.contains(error), "{action} {body}: {answer}");
    }
    socket.send_message("still here").await;
    let push = socket.event("chat-message").await;
    assert_eq!(push.message(), "still here", "no refused request stored anything");
}

#[tokio::test]
async fn frame_without_action_is_answered_without_action() {
    let cluster = Cluster::shared().await;
    let mut socket = cluster.socket(0, "ann").await;
    socket.send_binary(br#"{"action":"ping"}"#).await.expect("the socket is open");
    let binary = socket.next().await.expect("the socket is open");
    assert_eq!(
        binary,
        json!({
            "errors": ["Frames must be text."], "data": null, "action": null,
            "response_status": 400, "request_id": null,
        })
    );
    for (text, status) in [
        ("", 400),
        ("null", 400),
        (r#"{"action":"ping""#, 400),
        (r#"{"action":"ping","action":"ping"}"#, 400),
        (r#"{"action":"ping"} {"action":"ping"}"#, 400),
        (r#"{"action":5}"#, 405),
        (r#"{"action":null}"#, 405),
        (r#"{"action":"Ping"}"#, 405),
    ] {
        socket.send_text(text).await.expect("the socket is open");
        let answer = socket.next().await.expect("the socket is open");
        assert_eq!(answer["response_status"], status, "{text}: {answer}");
        assert_eq!(answer["errors"].as_array().map(Vec::len), Some(1), "{text}: {answer}");
        assert_eq!((&answer["data"], &answer["request_id"]), (&Value::Null, &Value::Null), "{text}");
    }
    assert_eq!(socket.act_ok("ping", json!({})).await, json!({}));
}
