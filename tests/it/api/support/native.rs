//! Tests support rooms by native clients: agents, and visitors with a token.

use reqwest::{Method, StatusCode};
use serde_json::json;
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size, sign},
};

use super::{agent, agent_of, close, key, messages, native_room, send, shown, visit, visit_of, visitor};

#[tokio::test]
async fn visitors_and_native_agents_talk() {
    let cluster = Cluster::start(Size { api: 2, fanout: 2, ..Size::default() }).await;
    let rest = visitor(&cluster, 0);
    let room = visit(&rest, visit_of("7")).await;
    let agent = agent(&cluster, "DOWELL12345");
    let native = native_room(&agent).await;
    let mut socket = Socket::open(&cluster.fanout[1].address(), &sign(&agent_of("DOWELL12345")))
        .await
        .expect("the socket opens");
    socket.join_room(native).await;

    send(&rest, key(&room), "is anybody here?").await;
    let push = socket.event("chat-message").await;
    let data = &push.data;
    assert_eq!((&data["message"], &data["user"]), (&json!("is anybody here?"), &json!("visitor:7")));
    let detail = json!({ "support": { "side": true, "auther": "client", "message_type": "text" } });
    assert_eq!(data["detail"], detail);
    let sent = socket.send_message("I am").await;
    agent.send_message(native, "at the desk").await;

    // A message by socket is acknowledged once it is in the log; a read waits until it is in Postgres.
    let found = messages(&rest, key(&room)).await;
    let fields: Vec<_> = found
        .iter()
        .map(|message| {
            (&message["message_data"], &message["side"], &message["auther"], &message["message_type"])
        })
        .collect();
    let text = json!("text");
    assert_eq!(
        fields,
        [
            (&json!("is anybody here?"), &json!(true), &json!("client"), &text),
            (&json!("I am"), &json!(false), &json!("agent"), &text),
            (&json!("at the desk"), &json!(false), &json!("agent"), &text),
        ]
    );
    assert_eq!(shown(&rest, key(&room)).await["message_data"], "at the desk");
    let stored = agent.page(&paths::messages(native)).await.results;
    assert_eq!((&stored[0]["user"], &stored[0]["detail"]), (&json!("visitor:7"), &detail));
    assert_eq!(stored[1].get("detail"), None);

    // Edits and deletions by either dialect are seen in the other one.
    let path = paths::message(native, sent);
    let edit = agent.patch(&path, json!({ "message": "We are" })).await;
    assert_eq!(edit.0, StatusCode::OK);
    assert_eq!(messages(&rest, key(&room)).await[1]["message_data"], "We are");
    let again = json!({ "msg_id": sent, "edited_msg_text": "We all are" });
    socket.act_ok("edit_message", again).await;
    assert_eq!(messages(&rest, key(&room)).await[1]["message_data"], "We all are");
    socket.act_ok("delete_messages", json!({ "msg_id_list": [sent] })).await;
    assert_eq!(messages(&rest, key(&room)).await.len(), 2);

    assert_eq!(close(&rest, key(&room)).await.0, StatusCode::OK);
    let update = socket.event("room-update").await;
    assert_eq!((&update.data["closed"], &update.data["by"]), (&json!(true), &json!("visitor:7")));
    let answer = socket.act("create_message", json!({ "room_pk": native, "msg_text": "wait" })).await;
    assert_eq!(answer.status, 409, "{answer}");
}

#[tokio::test]
async fn visitor_with_a_token_enters_by_native() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = visit(&ann, visit_of("ann")).await;
    let native = native_room(&ann).await;
    let mut socket = cluster.socket(0, "ann").await;
    socket.join_room(native).await;
    ann.send_message(native, "by native").await;
    send(&ann, key(&room), "by the desk").await;
    for text in ["by native", "by the desk"] {
        let push = socket.event("chat-message").await;
        assert_eq!((push.message(), push.user()), (text, "ann"));
    }
    let found = messages(&ann, key(&room)).await;
    assert!(
        found.iter().all(|message| message["side"] == true && message["auther"] == "client"),
        "{found:?}"
    );
    // An agent closes it as native clients do.
    let path = paths::room(native);
    let closed = agent(&cluster, "DOWELL12345").send(Method::DELETE, &path, &serde_json::Value::Null).await;
    assert_eq!(closed.expect("the node answers").0, StatusCode::NO_CONTENT);
    assert_eq!(shown(&ann, key(&room)).await["is_active"], false);
    assert_ne!(
        key(&visit(&ann, visit_of("ann")).await),
        key(&room),
        "a closed room is replaced by a new one"
    );
}

#[tokio::test]
async fn support_key_grants_nothing_by_native() {
    let cluster = Cluster::start(Size::default()).await;
    let room = visit(&visitor(&cluster, 0), visit_of("7")).await;
    let native = native_room(&agent(&cluster, "DOWELL12345")).await;
    // The person 7 and the visitor 7 are different users.
    let strangers = [cluster.rest(0, "7"), agent(&cluster, "OTHER"), cluster.rest(0, "eve")];
    for stranger in &strangers {
        let nothing = stranger.get(&paths::room(999_999)).await;
        assert_eq!(nothing.0, StatusCode::NOT_FOUND);
        for path in [paths::room(native), paths::messages(native)] {
            assert_eq!(stranger.get(&path).await, nothing);
        }
        assert_eq!(stranger.rooms().await, []);
    }
    let mut socket = cluster.socket(0, "7").await;
    for id in [native, 999_999] {
        let answer = socket.act("join_room", json!({ "room_pk": id })).await;
        assert_eq!(answer.refusal(), (404, "Not found."));
    }
    // A person who has the key writes in the room under their own name.
    send(&strangers[2], key(&room), "I was given the key").await;
    assert_eq!(agent(&cluster, "DOWELL12345").messages(native).await[0].user, "eve");
    let forged = Rest::new(&cluster.api[0].address(), &sign(&json!({ "user_id": "visitor:7" })));
    assert_eq!(forged.get(&paths::room(native)).await.0, StatusCode::UNAUTHORIZED);
}
