//! Tests each refusal of a match socket, in the envelope; none changes anything.

use serde_json::{Value, json};
use tests::cluster::{Cluster, Size};

use super::{Match, matched, one, two};

fn refused(action: &str, status: u16, detail: &str) -> Value {
    json!({
        "errors": [detail], "data": null, "action": action, "response_status": status, "request_id": 7,
    })
}

#[tokio::test]
async fn match_refusals_have_their_exact_answers() {
    let cluster = Cluster::start(Size::default()).await;
    let (room, other) = (matched(&cluster, ["1", "2"]).await, matched(&cluster, ["2", "3"]).await);
    let public = cluster.rest(0, "1").create_room("public").await;
    let (mut ann, mut bob) = (Match::open(&cluster, 0, &one()).await, Match::open(&cluster, 0, &two()).await);
    let ask = async |socket: &mut Match, action: &str, fields: Value| {
        let mut frame = fields;
        frame["action"] = action.into();
        frame["request_id"] = json!(7);
        socket.ask(frame).await
    };
    let nowhere = "This socket is in no room: join one first.";
    for (action, fields) in [
        ("leave_room", json!({})),
        ("current_room_info", json!({})),
        ("create_message", json!({ "msg_text": "hi" })),
        ("edit_message", json!({ "msg_id": 1, "edited_msg_text": "hi" })),
        ("delete_messages", json!({ "msg_id_list": [1] })),
    ] {
        assert_eq!(ask(&mut ann, action, fields).await, refused(action, 400, nowhere));
    }
    let join = "join_room";
    let denied = "You do not have permission to perform this action.";
    assert_eq!(ask(&mut ann, join, json!({ "room_pk": other })).await, refused(join, 403, denied));
    for room in [public, 999_999] {
        assert_eq!(ask(&mut ann, join, json!({ "room_pk": room })).await, refused(join, 404, "Not found"));
    }
    let missing = refused(join, 400, "missing field `room_pk`.");
    assert_eq!(ask(&mut ann, join, json!({})).await, missing);
    // Sockets of match rooms do not take native actions.
    for action in ["subscribe", "ping", "typing", "history", "nope"] {
        let detail = format!("Method {action:?} not allowed.");
        assert_eq!(ask(&mut ann, action, json!({})).await, refused(action, 405, &detail));
    }

    for socket in [&mut ann, &mut bob] {
        ask(socket, join, json!({ "room_pk": room })).await;
    }
    let created = ask(&mut bob, "create_message", json!({ "msg_text": "mine" })).await;
    ann.next().await;
    let id = &created["data"]["id"];
    let edit = json!({ "msg_id": id, "edited_msg_text": "ours" });
    assert_eq!(ask(&mut ann, "edit_message", edit).await, refused("edit_message", 403, denied));
    let delete = json!({ "msg_id_list": [id] });
    assert_eq!(ask(&mut ann, "delete_messages", delete).await, refused("delete_messages", 403, denied));
    let unknown = json!({ "msg_id": 999_999, "edited_msg_text": "?" });
    assert_eq!(ask(&mut ann, "edit_message", unknown).await, refused("edit_message", 404, "Not found"));
    for (text, detail) in [
        (" ".to_owned(), "message: must not be blank."),
        ("x".repeat(16_385), "message: must have at most 16384 characters."),
    ] {
        let answer = ask(&mut ann, "create_message", json!({ "msg_text": text })).await;
        assert_eq!(answer, refused("create_message", 400, detail));
    }
    let long =
        ann.ask(json!({ "action": "create_message", "msg_text": "m", "request_id": "x".repeat(300) })).await;
    assert_eq!(long["errors"], json!(["request_id: must have at most 256 bytes."]));
    let messages = cluster.rest(0, "1").messages(room).await;
    assert_eq!(messages.len(), 1, "no refused message is stored");
}
