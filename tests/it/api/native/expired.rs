//! Tests that a request is not done once its deadline is over: another node may have done it by then.

use std::time::Duration;

use protocol::{
    caller::Caller,
    clock::Timestamp,
    id::RoomId,
    rpc::{ActionReply, ActionRequest, RpcResult, Surface, expiry},
    subject::rpc,
};
use serde_json::{json, value::RawValue};
use tests::cluster::Cluster;

use super::{as_fanout, ask};

fn create_message(room: u64, text: &str, expires_at: i64) -> ActionRequest {
    let frame = json!({ "action": "create_message", "msg_text": text, "room_pk": room });
    ActionRequest {
        caller: Caller { user: "bob".parse().expect("an id"), is_admin: false, org_id: None },
        surface: Surface::Native,
        action: "create_message".to_owned(),
        frame: RawValue::from_string(frame.to_string()).expect("JSON"),
        rooms: vec![RoomId(room)],
        pairs: vec![],
        key: text.to_owned(),
        request: "r".to_owned(),
        expires_at,
    }
}

#[tokio::test]
async fn expired_request_is_not_done() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let client = as_fanout(&cluster).await;
    let late =
        serde_json::to_vec(&create_message(room, "late", Timestamp::now().unix_ms() - 1)).expect("JSON");
    let answer = tokio::time::timeout(Duration::from_secs(1), client.request(rpc::ACTION, late.into())).await;
    if let Ok(Ok(answer)) = answer {
        let reply: RpcResult<ActionReply> = serde_json::from_slice(&answer.payload).expect("a reply");
        assert!(reply.is_err(), "{reply:?}");
    }
    let reply: RpcResult<ActionReply> =
        ask(&client, rpc::ACTION, &create_message(room, "in time", expiry())).await;
    assert_eq!(reply.expect("the action succeeds").status, 201);
    let texts: Vec<_> = ann.messages(room).await.into_iter().map(|message| message.message).collect();
    assert_eq!(texts, ["in time"]);
}
