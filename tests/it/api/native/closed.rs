//! Tests closed rooms: a message can still be deleted, by its author and by admins.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size},
};

use super::{CLOSED, FORBIDDEN, NOT_FOUND, admin, refusal};

#[tokio::test]
async fn messages_of_a_closed_room_are_deleted_by_their_author_and_by_admins() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let [ann, bob] = ["ann", "bob"].map(|user| cluster.rest(0, user));
    let (root, eve) = (admin(&cluster, 1), cluster.rest(1, "eve"));
    let room = ann.create_private_room(&["bob"]).await;
    let mut said = Vec::new();
    for text in ["by rest", "by socket", "by an admin", "kept"] {
        said.push(bob.send_message(room, text).await);
    }
    assert_eq!(ann.delete(&paths::room(room)).await.0, StatusCode::NO_CONTENT);
    let path = |id: u64| paths::message(room, id);
    let left =
        async |rest: &Rest| rest.messages(room).await.iter().map(|message| message.id).collect::<Vec<_>>();
    assert_eq!(refusal(&eve.delete(&path(said[0])).await), NOT_FOUND, "she does not see it");
    assert_eq!(refusal(&ann.delete(&path(said[0])).await), FORBIDDEN, "it is not hers");
    assert_eq!(bob.delete(&path(said[0])).await.0, StatusCode::NO_CONTENT);
    let mut socket = cluster.socket(0, "bob").await;
    socket.act_ok("delete_messages", json!({ "room_pk": room, "msg_id_list": [said[1]] })).await;
    assert_eq!(root.delete(&path(said[2])).await.0, StatusCode::NO_CONTENT);
    for rest in [&ann, &bob, &root] {
        assert_eq!(left(rest).await, [said[3]]);
    }
    assert_eq!(refusal(&bob.delete(&path(said[0])).await), NOT_FOUND, "it is gone");
    let edit = bob.patch(&path(said[3]), json!({ "message": "x" })).await;
    assert_eq!(refusal(&edit), CLOSED, "nothing is said there any more");
    assert_eq!(bob.page(&paths::search("q=admin")).await.results, [Value::Null; 0]);
}
