//! Tests big rooms, whose participants are counted, not listed.

use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tests::{
    client::Socket,
    cluster::{Cluster, Size},
    native::RoomView,
};

/// Maximum number of participants that are listed.
const LISTED_MAX: usize = 1_000;

async fn join(cluster: &Cluster, user: &str, room: u64) -> (Socket, RoomView) {
    let mut socket = cluster.socket(0, user).await;
    let data = socket.join_room(room).await;
    (socket, data)
}

/// Lets 1,000 users join a room; with one more, its participants are only counted.
pub(crate) async fn fill(cluster: &Cluster, room: u64) -> Vec<(Socket, RoomView)> {
    let names: Vec<String> = (0..LISTED_MAX).map(|n| format!("fan{n}")).collect();
    stream::iter(&names).map(|name| join(cluster, name, room)).buffer_unordered(32).collect().await
}

#[tokio::test]
async fn participants_are_named_up_to_a_thousand_and_counted_above() {
    let cluster = Cluster::start(Size::default()).await;
    let room = cluster.rest(0, "ann").create_room("stadium").await;
    let (mut watcher, _) = join(&cluster, "eve", room).await;
    let sockets = fill(&cluster, room).await;

    // Each join is pushed up to 1,000 participants; above, `presence` pushes counts once a second.
    let (mut joins, mut count) = (0, 0);
    while count < LISTED_MAX + 1 {
        let push = watcher.push().await;
        let number = |name: &str| usize::try_from(push.data_u64(name)).expect("a small number");
        match &*push.event {
            "participant-join" => joins += 1,
            "presence" => {
                assert!(!push.has_id(), "`presence` must have no id, since it is not stored: {push}");
                joins += number("joined");
                count = number("count");
            }
            _ => {}
        }
    }
    assert_eq!(
        joins,
        LISTED_MAX + 1,
        "each join must be pushed or counted once, that of the watcher included"
    );
    let (_late, data) = join(&cluster, "late", room).await;
    assert_eq!((data.participants, data.count), (None, Some(LISTED_MAX as u64 + 1)));

    drop(sockets);
    while watcher.event("participant-leave").await.data["user"] == Value::Null {}
}
