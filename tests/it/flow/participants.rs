//! Tests who is in a room: from the join until the leave, whatever node the sockets are on.

use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size},
    eventually,
};

async fn wait_until_in(rest: &Rest, room: u64, people: Value) {
    eventually(&format!("{people} are in the room"), || async {
        let (status, shown) = rest.get(&paths::room(room)).await;
        assert_eq!(status.as_u16(), 200, "{shown}");
        (shown["participants"] == people).then_some(())
    })
    .await;
}

#[tokio::test]
async fn room_shows_who_joined_until_they_leave() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let join = json!({ "room_pk": room });
    let (mut one, mut two) = (cluster.socket(0, "ann").await, cluster.socket(1, "bob").await);
    // Following a room does not make a person a participant.
    two.subscribe_room(room).await;
    one.act_ok("join_room", join.clone()).await;
    wait_until_in(&ann, room, json!(["ann"])).await;
    two.act_ok("join_room", join.clone()).await;
    wait_until_in(&ann, room, json!(["ann", "bob"])).await;

    one.act_ok("leave_room", join.clone()).await;
    wait_until_in(&ann, room, json!(["bob"])).await;
    let left = two.event("participant-leave").await;
    assert_eq!(left.data, json!({ "user": "ann", "room": room }));
    // A closed socket leaves the room too, a little later.
    drop(two);
    wait_until_in(&ann, room, json!([])).await;
}

#[tokio::test]
async fn person_on_two_nodes_is_in_until_the_last_leaves() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let join = json!({ "room_pk": room });
    let (mut one, mut two) = (cluster.socket(0, "ann").await, cluster.socket(1, "ann").await);
    let mut bob = cluster.socket(0, "bob").await;
    for socket in [&mut one, &mut two, &mut bob] {
        socket.act_ok("join_room", join.clone()).await;
    }
    wait_until_in(&ann, room, json!(["ann", "bob"])).await;
    one.act_ok("leave_room", join.clone()).await;
    bob.act_ok("leave_room", join.clone()).await;
    wait_until_in(&ann, room, json!(["ann"])).await;
    two.act_ok("leave_room", join).await;
    wait_until_in(&ann, room, json!([])).await;
}

#[tokio::test]
async fn participants_unknown_while_the_persister_lags_are_pushed_once_known() {
    let mut cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let rest = cluster.rest(0, "ann");
    let room = rest.create_room("general").await;
    let (mut ann, mut bob) = (cluster.socket(0, "ann").await, cluster.socket(1, "bob").await);
    ann.join_room(room).await;
    wait_until_in(&rest, room, json!(["ann"])).await;
    cluster.persister[0].pause();
    ann.send_message_to(room, "Hello.").await;
    let answer = bob.act_ok("subscribe", json!({ "channel": format!("room-{room}") })).await;
    assert_eq!((&answer["participants"], &answer["count"]), (&Value::Null, &Value::Null));
    cluster.persister[0].resume();
    let push = bob.event("presence").await;
    let expected = json!({ "count": 1, "joined": 0, "left": 0, "participants": ["ann"] });
    assert_eq!((push.channel, push.data), (format!("room-{room}"), expected));
}
