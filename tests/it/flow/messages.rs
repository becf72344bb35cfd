//! Tests messages from the sender to Postgres: pushed by every node, once and in one order.

use reqwest::StatusCode;
use serde_json::json;
use service::nats::BrokerUser;
use tests::paths;
use tests::{
    cluster::{Cluster, Size},
    eventually,
};

#[tokio::test]
async fn posted_message_reaches_sockets_of_every_node() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let mut sockets = [cluster.socket(0, "bob").await, cluster.socket(1, "cid").await];
    for socket in &mut sockets {
        let data = socket.act_ok("subscribe", json!({ "channel": format!("room-{room}") })).await;
        assert_eq!(data["channel"], format!("room-{room}"));
        assert_eq!(data["recovered"], true);
        assert!(data["epoch"].is_u64() && data["shard"].is_u64() && data["id"].is_u64(), "{data}");
    }
    let id = ann.send_message(room, "hello").await;
    for socket in &mut sockets {
        let push = socket.event("chat-message").await;
        assert_eq!(push.id(), id);
        assert_eq!(push.channel, format!("room-{room}"));
        assert_eq!(push.message(), "hello");
        assert_eq!(push.user(), "ann");
        assert_eq!(push.room(), room);
        assert!(push.data["created_at"].is_string());
    }
}

#[tokio::test]
async fn new_public_room_is_pushed_on_system() {
    let cluster = Cluster::shared().await;
    let mut socket = cluster.socket(0, "bob").await;
    socket.subscribe("system").await;
    let ann = cluster.rest(0, "ann");
    let (status, _) = ann.post(paths::ROOMS, json!({ "name": "secret", "private": true })).await;
    assert_eq!(status, StatusCode::CREATED);
    let room = ann.create_room("general").await;
    let push = socket.push().await;
    assert_eq!(push.event, "chatroom", "a private room is not pushed on system: {push}");
    assert_eq!(push.data["request_type"], "chatroom");
    assert_eq!(push.data_u64("id"), room);
    assert_eq!(push.data["name"], "general");
}

#[tokio::test]
async fn socket_sends_edits_and_deletes_messages() {
    let cluster = Cluster::shared().await;
    let room = cluster.rest(0, "ann").create_room("general").await;
    let mut socket = cluster.socket(0, "ann").await;
    let joined = socket.join_room(room).await;
    assert_eq!(joined.id, room);
    let join = socket.event("participant-join").await;
    assert_eq!(join.data, json!({ "user": "ann", "room": room }));

    let sent = socket.act_ok("create_message", json!({ "msg_text": "helo", "client_id": "c-1" })).await;
    let push = socket.event("chat-message").await;
    assert_eq!((&json!(push.id()), push.data_str("client_id")), (&sent["id"], "c-1"));

    let edit = json!({ "msg_id": sent["id"], "edited_msg_text": "hello" });
    let data = socket.act_ok("edit_message", edit).await;
    assert_eq!(data, json!({ "room_id": room, "message_id": sent["id"], "message_text": "hello" }));
    let push = socket.event("message-edit").await;
    assert_eq!(push.message(), "hello");

    let data = socket.act_ok("delete_messages", json!({ "msg_id_list": [sent["id"]] })).await;
    assert_eq!(data, json!({ "room_id": room, "messages_ids": [sent["id"]] }));
    let push = socket.event("message-delete").await;
    assert_eq!(push.data["messages_ids"], json!([sent["id"]]));

    let data = socket.act_ok("leave_room", json!({})).await;
    assert_eq!(data["response"], format!("leaved room {room} successfully!"));
}

#[tokio::test]
async fn concurrent_senders_are_seen_in_one_order() {
    const EACH: usize = 25;
    let cluster = Cluster::shared().await;
    let room = cluster.rest(0, "ann").create_room("general").await;
    let channel = json!({ "channel": format!("room-{room}") });
    let mut sockets = [cluster.socket(0, "bob").await, cluster.socket(1, "cid").await];
    for socket in &mut sockets {
        socket.act_ok("subscribe", channel.clone()).await;
    }
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..8_usize {
        let rests = [cluster.rest(0, &format!("u{sender}")), cluster.rest(1, &format!("u{sender}"))];
        senders.spawn(async move {
            for n in 0..EACH {
                rests[n % 2].send_message(room, &format!("{n}")).await;
            }
        });
    }
    senders.join_all().await;
    let mut orders = Vec::new();
    for socket in &mut sockets {
        let mut order = Vec::new();
        let mut next = [0_usize; 8];
        while order.len() < 8 * EACH {
            let push = socket.event("chat-message").await;
            let user = push.user().to_owned();
            let n: usize = push.message().parse().expect("a number");
            let sender: usize = user[1..].parse().expect("a number");
            assert_eq!(n, next[sender], "{user}'s own order, over two api nodes");
            next[sender] += 1;
            order.push((user, n));
        }
        orders.push(order);
    }
    assert_eq!(orders[0], orders[1]);
}

#[tokio::test]
async fn repeated_client_id_is_stored_once_a_room() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let (one, two) = (ann.create_room("one").await, ann.create_room("two").await);
    let post = |room: u64, text: &'static str| {
        let ann = ann.clone();
        async move {
            let body = json!({ "message": text, "client_id": "same" });
            ann.post(&paths::messages(room), body).await
        }
    };
    let (_, first) = post(one, "hello").await;
    let (status, again) = post(one, "hello").await;
    assert_eq!((status, &again), (StatusCode::CREATED, &first));
    let (status, problem) = post(one, "other").await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("key_reused")));
    let (status, elsewhere) = post(two, "hello").await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(elsewhere["room"], two);
    assert_eq!(ann.messages(one).await.len(), 1, "the message is stored once");
}

#[tokio::test]
async fn repeated_client_id_over_a_socket_is_the_same_message() {
    let cluster = Cluster::shared().await;
    let room = cluster.rest(0, "ann").create_room("general").await;
    let frame = |text: &str| json!({ "room_pk": room, "msg_text": text, "client_id": "same" });
    let mut socket = cluster.socket(0, "ann").await;
    socket.join_room(room).await;
    let first = socket.act_ok("create_message", frame("hello")).await;
    assert_eq!(socket.act_ok("create_message", frame("hello")).await["id"], first["id"]);
    let answer = socket.act("create_message", frame("other")).await;
    assert_eq!(answer.refusal(), (422, "This client_id was used before, with another text."));
    // A client_id belongs to the person, not to the connection.
    let mut other = cluster.socket(0, "ann").await;
    assert_eq!(other.act_ok("create_message", frame("hello")).await["id"], first["id"]);
    // Each message is pushed once: the socket fails the test where an id repeats.
    socket.send_message("next").await;
    for text in ["hello", "next"] {
        let push = socket.event("chat-message").await;
        assert_eq!(push.message(), text);
    }
}

#[tokio::test]
async fn frames_of_a_socket_are_stored_in_the_order_sent() {
    let cluster = Cluster::shared().await;
    let room = cluster.rest(0, "ann").create_room("general").await;
    let mut socket = cluster.socket(0, "bob").await;
    socket.join_room(room).await;
    // The frames are pipelined, and two api nodes answer them.
    for n in 0..100 {
        let frame = json!({ "action": "create_message", "msg_text": n.to_string(), "request_id": "same" });
        socket.send_text(&frame.to_string()).await.expect("the socket is open");
    }
    for n in 0..100 {
        let push = socket.event("chat-message").await;
        assert_eq!(push.message(), n.to_string());
    }
}

#[tokio::test]
async fn message_is_edited_while_only_the_log_or_only_postgres_has_it() {
    let mut cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    cluster.persister[0].kill9();
    let id = ann.send_message(room, "one").await;
    ann.edit_message(room, id, "two").await;
    cluster.persister[0].restart();
    let text = async |expected: &str| {
        eventually("the edit is in Postgres", || async {
            let messages = ann.try_messages(room).await?;
            (messages.first()?.message == expected).then_some(())
        })
        .await;
    };
    text("two").await;
    log::purge_below(&cluster.jetstream(BrokerUser::Persister).await, cluster.shard_of(room).await, id + 2)
        .await
        .expect("the stream is purged");
    ann.edit_message(room, id, "three").await;
    text("three").await;
}
