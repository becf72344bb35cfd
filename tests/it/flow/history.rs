//! Tests pages of history: without gaps, and with every message that was acknowledged before.

use serde_json::json;
use tests::cluster::{Cluster, Size};
use tests::paths;

#[tokio::test]
async fn history_pages_meet_without_gap_or_repeat() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let all = ann.send_messages(room, 25).await;
    let path = format!("{}?limit=10", paths::messages(room));
    let pages = ann.pages(&path, "before").await;
    let [last, middle, first] = &pages[..] else { panic!("25 messages are 3 pages: {pages:?}") };
    assert_eq!([first.ids(), middle.ids(), last.ids()].concat(), all);
    let after = ann.page(&format!("{path}&after={}", all[3])).await;
    assert_eq!(after.ids(), all[4..14]);
}

#[tokio::test]
async fn page_with_the_last_entries_has_no_next() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let all = [ann.send_message(room, "one").await, ann.send_message(room, "two").await];
    for order in ["", "&after=0", "&changed_after=0"] {
        let page = ann.page(&format!("{}?limit=2{order}", paths::messages(room))).await;
        assert_eq!((page.ids(), page.next), (all.to_vec(), None), "{order}");
    }
}

#[tokio::test]
async fn read_includes_messages_acknowledged_before_on_another_node() {
    let cluster = Cluster::shared().await;
    let (writer, reader) = (cluster.rest(0, "ann"), cluster.rest(1, "bob"));
    let room = writer.create_room("general").await;
    for n in 0..20 {
        let id = writer.send_message(room, &n.to_string()).await;
        assert_eq!(reader.messages(room).await.last().map(|message| message.id), Some(id));
    }
}

#[tokio::test]
async fn read_includes_changes_acknowledged_before_on_another_node() {
    let cluster = Cluster::shared().await;
    let (writer, reader) = (cluster.rest(0, "ann"), cluster.rest(1, "bob"));
    let room = writer.create_room("general").await;
    let path = paths::messages(room);
    // A socket is answered once the event is in the log; only reads wait for Postgres.
    let mut socket = cluster.socket(0, "ann").await;
    for n in 0..20 {
        let id = writer.send_message(room, "the answer is unchanged").await;
        let edit = json!({ "room_pk": room, "msg_id": id, "edited_msg_text": n.to_string() });
        socket.act_ok("edit_message", edit).await;
        assert_eq!(reader.messages(room).await[0].message, n.to_string());
        socket.act_ok("delete_messages", json!({ "room_pk": room, "msg_id_list": [id] })).await;
        let page = reader.page(&format!("{path}?after={}", id - 1)).await;
        assert_eq!(page.ids(), [0; 0]);
    }
}

#[tokio::test]
async fn history_shows_edits_and_deletions() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let room = ann.create_room("general").await;
    let (remaining, deleted) = (ann.send_message(room, "helo").await, ann.send_message(room, "oops").await);
    let path = paths::messages(room);
    let edit = json!({ "message": "hello" });
    let (status, edited) = ann.patch(&format!("{path}/{remaining}"), edit).await;
    assert_eq!((status.as_u16(), &edited["message"]), (200, &json!("hello")));
    let (status, _) = ann.delete(&format!("{path}/{deleted}")).await;
    assert_eq!(status.as_u16(), 204);
    let messages = ann.messages(room).await;
    let [message] = &messages[..] else { panic!("only the edited message is left: {messages:?}") };
    assert_eq!((message.id, &*message.message), (remaining, "hello"));
    assert!(message.edited_at.is_some(), "{message:?}");
    let rooms = ann.page(paths::ROOMS).await;
    assert_eq!(rooms.ids(), [room]);
    let (_, shown) = ann.get(&paths::room(room)).await;
    assert_eq!(shown, rooms.results[0]);
}
