//! Tests that a user has one join and one leave, with any number of sockets on any number of nodes.

use serde_json::json;
use tests::paths;
use tests::{
    client::Socket,
    cluster::{Cluster, Size},
    eventually,
    native::{Push, RoomView},
};

fn users_of(pushes: &[Push], event: &str) -> Vec<String> {
    let of = pushes.iter().filter(|push| push.event == event);
    of.map(|push| push.user().to_owned()).collect()
}

async fn join(cluster: &Cluster, node: usize, user: &str, room: u64) -> (Socket, RoomView) {
    let mut socket = cluster.socket(node, user).await;
    let data = socket.join_room(room).await;
    (socket, data)
}

#[tokio::test]
async fn many_sockets_on_many_nodes_are_one_participant() {
    let cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("tea").await;
    let (mut watcher, data) = join(&cluster, 0, "eve", room).await;
    assert_eq!(data.participants, Some(vec![]), "before her own join is stored: {data:?}");
    watcher.event("participant-join").await;

    let (mut first, _) = join(&cluster, 0, "bob", room).await;
    let joined = watcher.event("participant-join").await;
    assert_eq!(joined.data, json!({ "user": "bob", "room": room }));
    let (mut second, data) = join(&cluster, 1, "bob", room).await;
    assert_eq!(data.participants, Some(vec!["bob".to_owned(), "eve".to_owned()]));
    assert_eq!(data.count, Some(2));
    let (mut third, _) = join(&cluster, 1, "bob", room).await;

    first.leave_room(room).await;
    second.leave_room(room).await;
    let id = ann.send_message(room, "still here?").await;
    assert_eq!(watcher.event("chat-message").await.id(), id);
    third.leave_room(room).await;
    let leave = watcher.event("participant-leave").await;
    assert_eq!(leave.data, json!({ "user": "bob", "room": room }));
    let later_pushes = watcher.pushes_until_pong().await;
    assert_eq!(
        (users_of(&later_pushes, "participant-join"), users_of(&later_pushes, "participant-leave")),
        (vec![], vec![])
    );

    // Postgres has the leave too.
    eventually("bob has left", || async {
        let (_, room) = ann.get(&paths::room(room)).await;
        (room["participants"] == json!(["eve"])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn reconnect_within_the_grace_is_no_leave() {
    let cluster = Cluster::start(Size::default()).await;
    let room = cluster.rest(0, "ann").create_room("tea").await;
    let (mut watcher, _) = join(&cluster, 0, "eve", room).await;
    let (bob, _) = join(&cluster, 0, "bob", room).await;
    watcher.event("participant-join").await;
    watcher.event("participant-join").await;
    drop(bob);
    let (bob, _) = join(&cluster, 0, "bob", room).await;
    drop(bob);
    // Bob leaves after the second close, not after the first.
    let leave = watcher.event("participant-leave").await;
    assert_eq!(leave.user(), "bob");
    let later_pushes = watcher.pushes_until_pong().await;
    assert!(later_pushes.is_empty(), "{later_pushes:?}");
}

#[tokio::test]
async fn stopping_node_publishes_the_leaves_of_its_people() {
    let mut cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let room = cluster.rest(0, "ann").create_room("tea").await;
    let (mut watcher, _) = join(&cluster, 0, "eve", room).await;
    watcher.event("participant-join").await;
    let (bob, _) = join(&cluster, 1, "bob", room).await;
    watcher.event("participant-join").await;
    let node = cluster.fanout.remove(1);
    let stopping = tokio::task::spawn_blocking(move || {
        let mut node = node;
        node.terminate()
    });
    drop(bob);
    assert_eq!(watcher.event("participant-leave").await.user(), "bob");
    assert_eq!(stopping.await.expect("the node stops").code(), Some(0));
}
