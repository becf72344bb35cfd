//! Tests `changed_after`, which clients read after an incomplete resume; and the same history by socket.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size},
    native::{MessageView, Page},
};

/// Reads all pages of changes after an event: message id, text, and whether it is deleted.
async fn changes(rest: &Rest, room: u64, after: u64, limit: usize) -> Vec<(u64, String, bool)> {
    let (mut all, mut next) = (Vec::new(), after.to_string());
    loop {
        let path = format!("{}?limit={limit}&changed_after={next}", paths::messages(room));
        let page: Page<MessageView> = rest.read(&path).await;
        assert!(page.results.len() <= limit, "a page has at most {limit} entries: {page:?}");
        all.extend(
            page.results.into_iter().map(|found| (found.id, found.message, found.deleted_at.is_some())),
        );
        match page.next {
            Some(cursor) => next = cursor,
            None => return all,
        }
    }
}

#[tokio::test]
async fn changes_after_an_event_list_edits_and_deletions() {
    let cluster = Cluster::shared().await;
    let (ann, bob) = (cluster.rest(0, "ann"), cluster.rest(1, "bob"));
    let room = ann.create_room("general").await;
    let path = paths::messages(room);
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(ann.send_message(room, &n.to_string()).await);
    }
    let since = ids[5];
    assert_eq!(changes(&bob, room, since, 50).await, []);
    ann.patch(&format!("{path}/{}", ids[0]), json!({ "message": "zero" })).await;
    let new = ann.send_message(room, "new").await;
    // One event that changes several messages: a page may end between them.
    let mut socket = cluster.socket(0, "ann").await;
    let three = json!({ "room_pk": room, "msg_id_list": [ids[3], ids[1], ids[2]] });
    socket.act_ok("delete_messages", three).await;
    let expected = [
        (ids[0], "zero".to_owned(), false),
        (new, "new".to_owned(), false),
        (ids[1], String::new(), true),
        (ids[2], String::new(), true),
        (ids[3], String::new(), true),
    ];
    for limit in [1, 2, 3, 5, 50] {
        assert_eq!(changes(&bob, room, since, limit).await, expected, "{limit} a page");
    }
    let everything = changes(&bob, room, 0, 4).await;
    let mut all: Vec<u64> = everything.iter().map(|(id, ..)| *id).collect();
    all.sort_unstable();
    assert_eq!(all, [ids, vec![new]].concat(), "each message is listed once");
    let page: Page<MessageView> = bob.read(&format!("{path}?changed_after={since}&limit=1")).await;
    let edited = &page.results[0];
    assert!(edited.changed.is_some_and(|event| event > since), "{edited:?}");
    assert!(edited.edited_at.is_some() && edited.deleted_at.is_none(), "{edited:?}");
}

#[tokio::test]
async fn changes_are_complete_or_refused() {
    let mut cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let id = ann.send_message(room, "one").await;
    cluster.persister[0].kill9();
    ann.send_message(room, "two").await;
    let (status, problem) = ann.get(&format!("{}?changed_after={id}", paths::messages(room))).await;
    assert_eq!((status.as_u16(), &problem["code"]), (503, &json!("unavailable")));
    cluster.persister[0].restart();
    cluster.wait_until_ready().await;
    assert_eq!(changes(&ann, room, id, 50).await.len(), 1);
}

#[tokio::test]
async fn socket_reads_history_and_its_room() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_private_room(&[]).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(ann.send_message(room, &n.to_string()).await);
    }
    let mut socket = cluster.socket(0, "ann").await;
    socket.join_room(room).await;
    let path = paths::messages(room);
    for (body, query) in [
        (json!({}), String::new()),
        (json!({ "limit": 2 }), "limit=2".to_owned()),
        (json!({ "before": ids[3], "limit": 2 }), format!("before={}&limit=2", ids[3])),
        (json!({ "after": ids[0], "room_pk": room }), format!("after={}", ids[0])),
    ] {
        assert_eq!(socket.act_ok("history", body).await, ann.get(&format!("{path}?{query}")).await.1);
    }
    for (body, status, error) in [
        (json!({ "limit": 201 }), 400, "limit: must be 1 to 200."),
        (json!({ "limit": "2" }), 400, "limit: invalid type: string \"2\", expected i64."),
        (json!({ "before": 1, "after": 1 }), 400, "before, after: only one of them can be given."),
        (json!({ "room_pk": 999_999 }), 404, "Not found."),
    ] {
        let answer = socket.act("history", body).await;
        assert_eq!(answer.refusal(), (status, error));
    }
    let shown = tests::eventually("ann is in the room", || async {
        let (_, shown) = ann.get(&paths::room(room)).await;
        (shown["participants"] == json!(["ann"])).then_some(shown)
    });
    assert_eq!(shown.await, socket.act_ok("current_room_info", json!({})).await);
    let mut eve = cluster.socket(0, "eve").await;
    for (body, status, error) in [
        (json!({}), 400, "room_pk: this socket is in no room."),
        (json!({ "room_pk": room }), 404, "Not found."),
    ] {
        let answer = eve.act("current_room_info", body).await;
        assert_eq!(answer.refusal(), (status, error));
    }
    let deleted = ann.delete(&format!("{path}/{}", ids[0])).await;
    assert_eq!(deleted, (StatusCode::NO_CONTENT, Value::Null));
    let none = eve.act("history", json!({ "room_pk": room })).await;
    assert_eq!(none.status, 404);
    let method = ann.put(&path, Value::Null).await;
    assert_eq!(method.0, StatusCode::METHOD_NOT_ALLOWED);
}
