//! Checks messages of direct rooms, written and read in both the direct and the native dialect.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Size};
use tests::paths;

use super::{add, get, person, post, send};

#[tokio::test]
async fn direct_and_native_messages_reach_each_other() {
    let cluster = Cluster::start(Size { api: 2, fanout: 2, ..Size::default() }).await;
    let (ann, bob) = (person(&cluster, 0, 7), person(&cluster, 1, 8));
    let room = add(&ann, 7, 8).await;
    let (mut joined, mut stranger) = (cluster.socket(1, "8").await, cluster.socket(0, "9").await);
    let info = joined.join_room(room).await;
    assert_eq!((&*info.kind, info.users), ("direct", Some(vec!["7".to_owned(), "8".to_owned()])));
    let refused = stranger.act("join_room", json!({ "room_pk": room })).await;
    assert_eq!(refused.status, 404, "{refused}");

    let (id, _) = send(&ann, room, "by document").await;
    let push = joined.event("chat-message").await;
    assert_eq!((&*push.channel, push.id()), (&*format!("room-{room}"), id));
    assert_eq!((push.message(), push.user()), ("by document", "7"));
    let sent = joined.send_message("by socket").await;
    let native = cluster.rest(1, "7");
    let by_rest = native.send_message(room, "by REST").await;
    let texts: Vec<_> = native.messages(room).await.into_iter().map(|message| message.message).collect();
    assert_eq!(texts, ["by document", "by socket", "by REST"]);

    // Reading the room waits for events that were acknowledged before.
    let list = get(&bob, &format!("/room/select/{room}")).await;
    let messages = &list["rooms"][room.to_string()]["messages"];
    assert_eq!(messages[sent.to_string()]["message"], "by socket");
    assert_eq!(messages[sent.to_string()]["author_id"], 8);
    assert_eq!(messages[by_rest.to_string()]["is_readed"], true);
    assert_eq!(messages[sent.to_string()]["is_readed"], false, "the message is not read by the other person");
    let read = joined.event("message-read").await;
    assert_eq!(read.data, json!({ "message_id": by_rest, "room": room, "user": "8" }));

    // Edited messages have their new text; deleted ones are left out.
    let path = paths::messages(room);
    let edit = json!({ "message": "by hand" });
    native.patch(&format!("{path}/{by_rest}"), edit).await;
    native.delete(&format!("{path}/{id}")).await;
    let messages = get(&ann, "/room/list").await["rooms"][room.to_string()]["messages"].clone();
    assert_eq!(messages[by_rest.to_string()]["message"], "by hand");
    assert_eq!(messages.get(id.to_string()), None);
}

#[tokio::test]
async fn direct_room_shows_its_last_fifty_messages_or_fewer_long_ones() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = person(&cluster, 0, 7);
    let room = add(&ann, 7, 8).await;
    let mut ids = Vec::new();
    for n in 0..52 {
        ids.push(send(&ann, room, &n.to_string()).await.0);
    }
    let shown = |room: &Value| -> Vec<u64> {
        let mut ids: Vec<u64> = room["messages"]
            .as_object()
            .expect("messages")
            .keys()
            .map(|key| key.parse().expect("an id"))
            .collect();
        ids.sort_unstable();
        ids
    };
    let list = get(&ann, "/room/list").await;
    assert_eq!(shown(&list["rooms"][room.to_string()]), ids[2..]);
    // A longest message has 64 KiB: two fill the limit of 128 KiB.
    for _ in 0..3 {
        ids.push(send(&ann, room, &"𝄞".repeat(16_384)).await.0);
    }
    let (last, answer) = send(&ann, room, "short").await;
    ids.push(last);
    assert_eq!(shown(&answer), ids[ids.len() - 3..]);
}

#[tokio::test]
async fn direct_message_with_a_repeated_key_is_stored_once() {
    let cluster = Cluster::start(Size { api: 2, ..Size::default() }).await;
    let ann = person(&cluster, 0, 7);
    let room = add(&ann, 7, 8).await;
    let send = async |node: usize, text: &str| {
        let request = person(&cluster, node, 7).request(Method::POST, "/room/list");
        let request =
            request.header("idempotency-key", "k-1").json(&json!({ "room_id": room, "message": text }));
        let answer = request.send().await.expect("the node answers");
        (answer.status(), answer.json::<Value>().await.expect("JSON"))
    };
    let first = send(0, "once").await;
    assert_eq!(first.0, StatusCode::OK, "{first:?}");
    assert_eq!(send(1, "once").await, first);
    let detail = json!({ "detail": "This client_id was used before, with another text." });
    assert_eq!(send(0, "twice").await, (StatusCode::UNPROCESSABLE_ENTITY, detail));
}

#[tokio::test]
async fn direct_answer_contains_its_own_change_while_the_persister_is_down() {
    let mut cluster = Cluster::start(Size::default()).await;
    let ann = person(&cluster, 0, 7);
    let room = add(&ann, 7, 8).await;
    send(&ann, room, "before").await;
    cluster.persister[0].kill9();
    // A room that is not yet in Postgres can be written to.
    let new = post(&ann, "/room/add", json!({ "owner": 7, "abonent": 9 })).await;
    assert_eq!((&new["abonent_id"], &new["is_current"]), (&json!(9), &json!(true)));
    let (_, answer) = send(&ann, tests::native::id(&new), "early").await;
    assert_eq!((super::keys(&answer), &answer["abonent_id"]), (super::ROOM.to_vec(), &json!(9)));
    let (id, answer) = send(&ann, room, "now").await;
    assert_eq!(answer["messages"].as_object().map(|messages| messages.len()), Some(2));
    cluster.persister[0].restart();
    cluster.wait_until_ready().await;
    let list = get(&ann, &format!("/room/select/{room}")).await;
    assert_eq!(list["rooms"][room.to_string()]["messages"][id.to_string()]["message"], "now");
}
