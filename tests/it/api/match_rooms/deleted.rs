//! Tests that a deleted message of a match room can't be read on any node from the acknowledgement on.

use serde_json::{Value, json};
use tests::cluster::{Cluster, Size};
use tests::native::SocketAnswer;

use super::{Match, matched, one, root, two};

#[tokio::test]
async fn deleted_message_is_not_found_by_any_socket_while_postgres_lacks_the_deletion() {
    let mut cluster = Cluster::start(Size { api: 2, fanout: 2, ..Size::default() }).await;
    let room = matched(&cluster, ["1", "2"]).await;
    let admin = json!({ "user_id": 9, "is_admin": true });
    let mut sockets = [
        Match::open(&cluster, 0, &one()).await,
        Match::open(&cluster, 1, &two()).await,
        Match::open_at(&cluster, 1, "/ws/admin-chat/", &admin).await,
    ];
    for socket in &mut sockets {
        socket.ask(json!({ "action": "join_room", "room_pk": room, "request_id": 0 })).await;
    }
    let [ann, bob, root_socket] = &mut sockets;
    let mut sent = Vec::new();
    for n in 0..2 {
        let answer = ann.ask(json!({ "action": "create_message", "msg_text": "hi", "request_id": n })).await;
        sent.push(SocketAnswer::from(answer.clone()).id());
        for other in [&mut *bob, &mut *root_socket] {
            assert_eq!(other.next().await, answer);
        }
    }
    // Reading the messages waits until Postgres has both.
    assert_eq!(root(&cluster).messages(room).await.len(), 2);
    cluster.persister[0].pause();
    let delete = |id: u64, request: &str| json!({ "action": "delete_messages", "msg_id_list": [id], "request_id": request });
    let deleted = ann.ask(delete(sent[0], "first")).await;
    assert_eq!(deleted["response_status"], 200, "{deleted}");
    for other in [&mut *bob, &mut *root_socket] {
        assert_eq!(other.next().await, deleted);
    }
    let edit = |id: u64| json!({ "action": "edit_message", "msg_id": id, "edited_msg_text": "x", "request_id": "e" });
    let assert_not_found = |answer: &Value| {
        let answer = SocketAnswer::from(answer.clone());
        assert_eq!(answer.refusal(), (404, "Not found"), "{answer}");
    };
    for frame in [edit(sent[0]), delete(sent[0], "again")] {
        assert_not_found(&ann.ask(frame).await);
    }
    assert_not_found(&root_socket.ask(delete(sent[0], "admin")).await);
    let both =
        json!({ "action": "delete_messages", "msg_id_list": [sent[1], sent[0]], "request_id": "both" });
    assert_not_found(&ann.ask(both).await);
    let edited = ann.ask(edit(sent[1])).await;
    assert_eq!(edited["response_status"], 200, "the refused request deleted nothing: {edited}");
    for other in [bob, root_socket] {
        assert_eq!(other.next().await, edited, "nothing else was pushed");
    }
    cluster.persister[0].resume();
    for frame in [edit(sent[0]), delete(sent[0], "later")] {
        assert_not_found(&ann.ask(frame).await);
    }
}
