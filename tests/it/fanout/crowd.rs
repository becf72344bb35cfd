//! Tests big rooms, where people are counted, not named.

use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tests::{
    client::Socket,
    cluster::{Cluster, Size},
    native::RoomView,
};

/// Most participants that are named.
const CROWD: usize = 1_000;

async fn join(cluster: &Cluster, user: &str, room: u64) -> (Socket, RoomView) {
    let mut socket = cluster.socket(0, user).await;
    let data = socket.join_room(room).await;
    (socket, data)
}

/// Fills a room with 1,000 people, so that it is a crowd if one more person is in it.
pub(crate) async fn fill(cluster: &Cluster, room: u64) -> Vec<(Socket, RoomView)> {
    let names: Vec<String> = (0..CROWD).map(|n| format!("fan{n}")).collect();
    stream::iter(&names).map(|name| join(cluster, name, room)).buffer_unordered(32).collect().await
}

#[tokio::test]
async fn participants_are_named_up_to_a_thousand_and_counted_above() {
    let cluster = Cluster::start(Size::default()).await;
    let room = cluster.rest(0, "ann").create_room("stadium").await;
    let (mut watcher, _) = join(&cluster, "eve", room).await;
    let sockets = fill(&cluster, room).await;

    // Each join is told until it is a crowd; from then on how many came and went, once a second.
    let (mut seen, mut count) = (0, 0);
    while count < CROWD + 1 {
        let push = watcher.push().await;
        let number = |name: &str| usize::try_from(push.data_u64(name)).expect("small");
        match &*push.event {
            "participant-join" => seen += 1,
            "presence" => {
                assert!(!push.has_id(), "it is never stored: {push}");
                seen += number("joined");
                count = number("count");
            }
            _ => {}
        }
    }
    assert_eq!(seen, CROWD + 1, "each is told once, herself too");
    let (_late, data) = join(&cluster, "late", room).await;
    assert_eq!((data.participants, data.count), (None, Some(CROWD as u64 + 1)));

    drop(sockets);
    while watcher.event("participant-leave").await.data["user"] == Value::Null {}
}
