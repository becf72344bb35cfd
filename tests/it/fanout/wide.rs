//! Tests a node that follows more rooms than it subscribes to one by one.

use std::collections::BTreeMap;

use tests::{
    cluster::{Cluster, Size},
    postgres::Database,
};

/// More rooms than a node subscribes to one by one.
const ROOMS: usize = 1_100;

#[tokio::test]
async fn events_of_many_rooms_of_a_shard_are_pushed_once_each() {
    let one_shard = [("ROOMCAST_SHARDS", "1"), ("ROOMCAST_CHANNELS_SOCKET", "off")];
    let cluster = Cluster::start_with(Size::default(), Database::shared(), &one_shard).await;
    let ann = cluster.rest(0, "ann");
    let rooms = ann.create_rooms(ROOMS).await;
    let mut socket = cluster.socket(0, "bob").await;
    let mut sent: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    // Somebody writes before, during and after the switch to one subscription for all.
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
    let mut seen: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for _ in 0..sent.values().map(Vec::len).sum() {
        let push = socket.event("chat-message").await;
        let room = push.room();
        seen.entry(room).or_default().push(push.id());
    }
    assert_eq!(seen, sent);
}
