//! Tests the seven actions, and what each pushes to everyone in the room.

use serde_json::{Value, json};
use tests::cluster::{Cluster, Size};

use super::{Match, PERSON, keys, matched, one, two};

#[tokio::test]
async fn actions_in_a_match_are_pushed_to_both_once_in_order() {
    let cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let (mut ann, mut bob) = (Match::open(&cluster, 0, &one()).await, Match::open(&cluster, 1, &two()).await);
    let room = matched(&cluster, ["1", "2"]).await;

    let list = ann.ask(json!({ "action": "list", "request_id": 1_500_000 })).await;
    assert_eq!(keys(&list), ["action", "data", "errors", "request_id", "response_status"]);
    assert_eq!((&list["errors"], &list["action"]), (&json!([]), &json!("list")));
    assert_eq!((&list["response_status"], &list["request_id"]), (&json!(200), &json!(1_500_000)));
    let listed = list["data"][0].clone();
    assert_eq!(keys(&listed), ["has_business", "participants", "pk"]);
    assert_eq!((&listed["pk"], &listed["has_business"]), (&json!(room), &json!(true)));
    assert_eq!(listed["participants"].as_array().map(Vec::len), Some(2));
    assert_eq!(keys(&listed["participants"][0]), PERSON);
    assert_eq!(listed["participants"][0]["id"], 1);

    for (socket, id) in [(&mut ann, json!("a")), (&mut bob, json!("b"))] {
        let joined = socket.ask(json!({ "action": "join_room", "room_pk": room, "request_id": id })).await;
        assert_eq!((&joined["response_status"], &joined["request_id"]), (&json!(200), &id), "{joined}");
        assert_eq!(keys(&joined["data"]), ["has_business", "participants", "pk"]);
        let info = socket.ask(json!({ "action": "current_room_info", "request_id": id })).await;
        assert_eq!((&info["data"]["pk"], &info["action"]), (&json!(room), &json!("current_room_info")));
    }

    let created =
        ann.ask(json!({ "action": "create_message", "msg_text": "hello", "request_id": "ü1" })).await;
    assert_eq!(created, bob.next().await, "the sender's answer equals the push to others");
    assert_eq!((&created["action"], &created["response_status"]), (&json!("create_message"), &json!(201)));
    assert_eq!((&created["request_id"], &created["errors"]), (&json!("ü1"), &json!([])));
    let data = &created["data"];
    assert_eq!(keys(data), ["created_at", "id", "room", "text", "user"]);
    assert_eq!((&data["text"], &data["user"]["id"]), (&json!("hello"), &json!(1)));
    assert_eq!((&data["user"]["username"], &data["room"]["pk"]), (&json!("One"), &json!(room)));
    let id = data["id"].clone();

    let edit = json!({ "action": "edit_message", "msg_id": id, "edited_msg_text": "edit", "request_id": 2 });
    let edited = ann.ask(edit).await;
    let expected = json!({
        "errors": [], "action": "edit_message", "response_status": 200, "request_id": 2,
        "data": { "room_id": room, "message_id": id, "message_text": "edit" },
    });
    assert_eq!(edited, expected);
    assert_eq!(bob.next().await, expected);

    let delete = json!({ "action": "delete_messages", "msg_id_list": [id], "request_id": null });
    let deleted = ann.ask(delete).await;
    let expected = json!({
        "errors": [], "action": "delete_messages", "response_status": 200, "request_id": null,
        "data": { "room_id": room, "messages_ids": [id] },
    });
    assert_eq!(deleted, expected);
    assert_eq!(bob.next().await, expected);

    let left = ann.ask(json!({ "action": "leave_room", "request_id": 3 })).await;
    assert_eq!(left["data"], json!({ "response": format!("leaved room {room} successfully!") }));
    bob.ask(json!({ "action": "create_message", "msg_text": "alone", "request_id": 4 })).await;
    let list = ann.ask(json!({ "action": "list", "request_id": 5 })).await;
    assert_eq!(list["action"], "list", "no event of a room that was left is pushed");
}

#[tokio::test]
async fn concurrent_messages_in_a_match_have_one_order() {
    const EACH: usize = 50;
    let cluster = Cluster::start(Size { api: 2, fanout: 2, ..Size::default() }).await;
    let room = matched(&cluster, ["1", "2"]).await;
    let mut orders = Vec::new();
    let mut sockets = [Match::open(&cluster, 0, &one()).await, Match::open(&cluster, 1, &two()).await];
    for socket in &mut sockets {
        socket.ask(json!({ "action": "join_room", "room_pk": room, "request_id": 0 })).await;
    }
    for (name, socket) in ["a", "b"].iter().zip(&mut sockets) {
        for n in 0..EACH {
            let frame =
                json!({ "action": "create_message", "msg_text": "m", "request_id": format!("{name}{n}") });
            socket.0.send_text(&frame.to_string()).await.expect("the socket is open");
        }
    }
    for socket in &mut sockets {
        let mut order: Vec<Value> = Vec::new();
        while order.len() < 2 * EACH {
            order.push(socket.next().await);
        }
        orders.push(order);
    }
    assert_eq!(orders[0], orders[1], "each event arrives once and in order");
    let of = |name: char| -> Vec<&str> {
        let ids = orders[0].iter().filter_map(|frame| frame["request_id"].as_str());
        ids.filter(|id| id.starts_with(name)).collect()
    };
    let expected: Vec<String> = (0..EACH).map(|n| format!("a{n}")).collect();
    assert_eq!(of('a'), expected, "the messages of one sender stay in order");
}

#[tokio::test]
async fn match_and_other_dialects_see_each_others_messages() {
    let cluster = Cluster::start(Size::default()).await;
    let room = matched(&cluster, ["1", "2"]).await;
    let mut ann = Match::open(&cluster, 0, &one()).await;
    ann.ask(json!({ "action": "join_room", "room_pk": room, "request_id": 0 })).await;
    let mut bob = cluster.socket(0, "2").await;
    bob.act_ok("join_room", json!({ "room_pk": room })).await;

    let created = ann.ask(json!({ "action": "create_message", "msg_text": "hello", "request_id": 1 })).await;
    let push = bob.event("chat-message").await;
    assert_eq!((&created["data"]["id"], push.message()), (&json!(push.id()), "hello"));

    let sent = bob.act_ok("create_message", json!({ "msg_text": "hi", "room_pk": room })).await;
    let push = ann.next().await;
    assert_eq!((&push["action"], &push["request_id"]), (&json!("create_message"), &Value::Null));
    assert_eq!((&push["data"]["id"], &push["data"]["text"]), (&sent["id"], &json!("hi")));
    assert_eq!((&push["data"]["user"]["id"], &push["data"]["room"]["pk"]), (&json!(2), &json!(room)));
    let message_id = cluster.rest(0, "2").send_message(room, "by hand").await;
    assert_eq!(ann.next().await["data"]["id"], message_id);
}

#[tokio::test]
async fn match_socket_is_in_one_room_at_a_time() {
    let cluster = Cluster::start(Size::default()).await;
    let rooms = [matched(&cluster, ["1", "2"]).await, matched(&cluster, ["1", "3"]).await];
    let mut ann = Match::open(&cluster, 0, &one()).await;
    for room in rooms {
        ann.ask(json!({ "action": "join_room", "room_pk": room, "request_id": 0 })).await;
    }
    cluster.rest(0, "2").send_message(rooms[0], "to nobody").await;
    let message_id = cluster.rest(0, "3").send_message(rooms[1], "to ann").await;
    assert_eq!(ann.next().await["data"]["id"], message_id);
    let info = ann.ask(json!({ "action": "current_room_info", "request_id": 1 })).await;
    assert_eq!(info["data"]["pk"], rooms[1]);
}
