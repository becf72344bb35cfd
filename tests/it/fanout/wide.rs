//! Tests a node with so many rooms that it uses one wildcard subscription for the shard.

use std::collections::BTreeMap;

use tests::{
    cluster::{Cluster, Size},
    postgres::Database,
};

/// Number of rooms, above the maximum of single subscriptions of a node.
const ROOMS: usize = 1_100;

#[tokio::test]
async fn events_of_many_rooms_of_a_shard_are_pushed_once_each() {
    let one_shard = [("ROOMCAST_SHARDS", "1"), ("ROOMCAST_CHANNELS_SOCKET", "off")];
    let cluster = Cluster::start_with(Size::default(), Database::shared(), &one_shard).await;
    let ann = cluster.rest(0, "ann");
    let rooms = ann.create_rooms(ROOMS).await;
    let mut socket = cluster.socket(0, "bob").await;
    let mut sent: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    // Messages are sent before, during and after the switch to a wildcard subscription.
    for (n, room) in rooms.iter().enumerate() {
        socket.subscribe_room(room).await;
        if n % 10 == 0 {
            for room in [rooms[0], *room] {
                sent.entry(room).or_default().push(ann.send_message(room, "m").await);
            }
        }
    }
    for room in &rooms {
        sent.entry(*room).or_default().push(ann.send_message(*room, "last").await);
    }
    let mut received: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for _ in 0..sent.values().map(Vec::len).sum() {
        let push = socket.event("chat-message").await;
        let room = push.room();
        received.entry(room).or_default().push(push.id());
    }
    assert_eq!(received, sent);
}
