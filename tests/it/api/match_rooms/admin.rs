//! Checks that admins see all match rooms, and write only where a brand has a business plan.

use serde_json::json;
use tests::{
    client::Socket,
    cluster::{Cluster, Size, sign},
};
use tokio_tungstenite::tungstenite::Error;

use super::{Match, matched, one, two};

#[tokio::test]
async fn admins_see_every_match_room_and_write_where_allowed() {
    let cluster = Cluster::start(Size::default()).await;
    let admin = json!({ "user_id": 9, "is_admin": true });
    let (mut ann, _bob) = (Match::open(&cluster, 0, &one()).await, Match::open(&cluster, 0, &two()).await);
    let (rich, poor) = (matched(&cluster, ["1", "2"]).await, matched(&cluster, ["2", "3"]).await);
    match Socket::open_at(&cluster.fanout[0].address(), "/ws/admin-chat/", &sign(&two())).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status().as_u16(), 403),
        other => panic!("{:?}", other.map(|_| "a socket")),
    }
    let mut root = Match::open_at(&cluster, 0, "/ws/admin-chat/", &admin).await;
    let list = root.ask(json!({ "action": "list", "request_id": 1 })).await;
    let rooms: Vec<_> = list["data"].as_array().expect("a list").iter().map(|room| &room["pk"]).collect();
    assert_eq!(rooms, [&json!(poor), &json!(rich)]);
    let info = root.ask(json!({ "action": "current_room_info", "request_id": 1 })).await;
    assert_eq!(info["response_status"], 405);

    let joined = root.ask(json!({ "action": "join_room", "room_pk": poor, "request_id": 1 })).await;
    assert_eq!(joined["response_status"], 200);
    let write = json!({ "action": "create_message", "msg_text": "hello", "request_id": 2 });
    assert_eq!(root.ask(write.clone()).await["response_status"], 403);

    root.ask(json!({ "action": "join_room", "room_pk": rich, "request_id": 1 })).await;
    ann.ask(json!({ "action": "join_room", "room_pk": rich, "request_id": 1 })).await;
    let created = root.ask(write).await;
    assert_eq!((&created["response_status"], &created["data"]["user"]["id"]), (&json!(201), &json!(9)));
    assert_eq!(ann.next().await, created);
    let sent = ann.ask(json!({ "action": "create_message", "msg_text": "ours", "request_id": 3 })).await;
    assert_eq!(root.next().await, sent);
    let edit = json!({ "action": "edit_message", "msg_id": sent["data"]["id"], "edited_msg_text": "x", "request_id": 4 });
    assert_eq!(root.ask(edit).await["response_status"], 403, "only the author may edit");
    let delete = json!({ "action": "delete_messages", "msg_id_list": [sent["data"]["id"]], "request_id": 5 });
    assert_eq!(root.ask(delete).await["response_status"], 200);
    assert_eq!(ann.next().await["action"], "delete_messages");
}
