//! Tests closed rooms: a message can still be deleted, by its author and by admins.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::paths;
use tests::{client::Rest, cluster::Cluster};

use super::{CLOSED, FORBIDDEN, NOT_FOUND, admin, refusal};

#[tokio::test]
async fn messages_of_a_closed_room_are_deleted_by_their_author_and_by_admins() {
    let cluster = Cluster::shared().await;
    let [ann, bob] = ["ann", "bob"].map(|user| cluster.rest(0, user));
    let (root, eve) = (admin(&cluster, 1), cluster.rest(1, "eve"));
    let room = ann.create_private_room(&["bob"]).await;
    let mut sent = Vec::new();
    for text in ["by rest", "by socket", "by an admin", "kept"] {
        sent.push(bob.send_message(room, text).await);
    }
    assert_eq!(ann.delete(&paths::room(room)).await.0, StatusCode::NO_CONTENT);
    let path = |id: u64| paths::message(room, id);
    let left =
        async |rest: &Rest| rest.messages(room).await.iter().map(|message| message.id).collect::<Vec<_>>();
    assert_eq!(refusal(&eve.delete(&path(sent[0])).await), NOT_FOUND, "a stranger does not see the message");
    assert_eq!(
        refusal(&ann.delete(&path(sent[0])).await),
        FORBIDDEN,
        "only the author and admins may delete"
    );
    assert_eq!(bob.delete(&path(sent[0])).await.0, StatusCode::NO_CONTENT);
    let mut socket = cluster.socket(0, "bob").await;
    socket.act_ok("delete_messages", json!({ "room_pk": room, "msg_id_list": [sent[1]] })).await;
    assert_eq!(root.delete(&path(sent[2])).await.0, StatusCode::NO_CONTENT);
    for rest in [&ann, &bob, &root] {
        assert_eq!(left(rest).await, [sent[3]]);
    }
    assert_eq!(refusal(&bob.delete(&path(sent[0])).await), NOT_FOUND, "a deleted message is not found");
    let edit = bob.patch(&path(sent[3]), json!({ "message": "x" })).await;
    assert_eq!(refusal(&edit), CLOSED, "a closed room refuses edits");
    assert_eq!(bob.page(&paths::search("q=admin")).await.results, [Value::Null; 0]);
}
