//! Sends one message in each dialect, and compares its copy at the broker and at each reader that may see the room, in
//! that reader's own form.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use protocol::{id::RoomId, subject::Channel};
use reqwest::StatusCode;
use serde_json::{Value, json};
use service::nats::BrokerUser;
use tests::paths;
use tests::{
    TIMEOUT,
    client::{Rest, Socket},
    cluster::{Cluster, Size, sign},
};

/// A way to write in a room, and to read it.
enum Way {
    /// `/api/v1`.
    Rest(Rest),
    /// `ws /ws/`, and a topic's own address.
    Socket(Socket),
    /// `ws /ws/chat/`, and the admins'.
    Match(Socket),
    /// `/room/…`.
    Direct(Rest),
    /// `/api/v2/…`, by the room's key.
    Desk(Rest, String),
}

/// A message as a dialect shows it: its id, if it has one, its author, its text.
type Seen = (Option<u64>, String, String);

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn seen(message: &Value, [id, author, words]: [&str; 3]) -> Seen {
    let at = |path: &str| message.pointer(path).unwrap_or_else(|| panic!("{path}: {message}"));
    let id = (!id.is_empty()).then(|| at(id).as_u64().expect("a number"));
    (id, text(at(author)), text(at(words)))
}

impl Way {
    async fn say(&mut self, room: u64, words: &str) {
        let answer = match self {
            Self::Rest(rest) => {
                rest.send_message(room, words).await;
                return;
            }
            Self::Socket(socket) => {
                socket.send_message_to(room, words).await;
                return;
            }
            // Its answer is its push, which may come after others'.
            Self::Match(socket) => {
                let frame = json!({ "action": "create_message", "msg_text": words });
                return socket.send_text(&frame.to_string()).await.expect("open");
            }
            Self::Direct(rest) => rest.post("/room/list", json!({ "room_id": room, "message": words })).await,
            Self::Desk(rest, key) => {
                let body = json!({
                    "type": "create_message", "room_id": key, "message_data": words, "side": true,
                    "auther": "client", "message_type": "text",
                });
                rest.post("/api/v2/room-service/", body).await
            }
        };
        assert_eq!(answer.0, StatusCode::OK, "{answer:?}");
    }

    /// Reads the newest message, or the next that is pushed.
    async fn read(&mut self, room: u64) -> Seen {
        match self {
            Self::Rest(rest) => {
                let (_, page) = rest.get(&format!("{}?limit=1", paths::messages(room))).await;
                seen(&page["results"][0], ["/id", "/user", "/message"])
            }
            Self::Socket(socket) => {
                let push = socket.event("chat-message").await;
                seen(push.frame(), ["/id", "/data/user", "/data/message"])
            }
            Self::Match(socket) => {
                let push = socket.push().await;
                assert_eq!(push.frame()["action"], "create_message", "{push}");
                seen(push.frame(), ["/data/id", "/data/user/id", "/data/text"])
            }
            Self::Direct(rest) => {
                // A look at the room waits for what was acknowledged before.
                let (_, rooms) = rest.get(&format!("/room/select/{room}")).await;
                let messages = rooms["rooms"][room.to_string()]["messages"].as_object();
                let last = messages.and_then(|all| all.values().max_by_key(|message| message["id"].as_u64()));
                seen(last.unwrap_or(&rooms), ["/id", "/author_id", "/message"])
            }
            Self::Desk(rest, key) => {
                let path = format!("/api/v2/room-service/?type=get_messages&room_id={key}");
                let (_, page) = rest.get(&path).await;
                let last = page["response"].as_array().and_then(|all| all.last());
                seen(last.unwrap_or(&page), ["", "/auther", "/message_data"])
            }
        }
    }
}

/// Writers and readers of one room.
struct Table<'a> {
    cluster: &'a Cluster,
    room: u64,
    /// Each writer: the author that readers see, and the way to write.
    writers: Vec<(&'static str, Way)>,
    readers: Vec<(&'static str, Way)>,
}

impl Table<'_> {
    /// Has each writer write once, and checks that all readers see the message.
    async fn play(mut self) {
        let mut heard = self.listen().await;
        for (n, (author, writer)) in self.writers.iter_mut().enumerate() {
            let words = format!("{n} by {author}");
            writer.say(self.room, &words).await;
            let mut ids = Vec::new();
            let mut event = tokio::time::timeout(TIMEOUT, heard.next()).await;
            while matches!(&event, Ok(Some(event)) if !event.subject.ends_with(".chat-message")) {
                event = tokio::time::timeout(TIMEOUT, heard.next()).await;
            }
            let event = event.ok().flatten().unwrap_or_else(|| panic!("{words:?} is not pushed"));
            let payload: Value = serde_json::from_slice(&event.payload).expect("JSON");
            assert_eq!(payload["message"], *words);
            let sequence =
                event.headers.and_then(|headers| headers.get("Nats-Sequence")?.as_str().parse().ok());
            ids.push(sequence.expect("its place in the log"));
            for (name, reader) in &mut self.readers {
                let (id, by, text) = reader.read(self.room).await;
                // At the desk a visitor is the client.
                let is_visitor = author.starts_with("visitor:") && by == "client";
                assert!(by == *author || is_visitor, "{name}: {words:?} is by {by}");
                assert_eq!(text, words, "{name}");
                ids.extend(id);
            }
            ids.dedup();
            assert_eq!(ids.len(), 1, "{words}: one message, whoever reads it: {ids:?}");
        }
    }

    /// Subscribes to the live copies of the room's events.
    async fn listen(&self) -> async_nats::Subscriber {
        let log = self.cluster.jetstream(BrokerUser::Fanout).await;
        let shards = log::discover(&log).await.expect("a log").shards;
        let subject = Channel::Room(RoomId(self.room)).live_filter(shards);
        let heard = log.client().subscribe(subject).await.expect("a subscription");
        // What is answered on the same connection was asked after it.
        log::discover(&log).await.expect("a log");
        heard
    }
}

/// Claims of a person, valid in all dialects: two people, and an admin.
fn claims(user: u64) -> Value {
    json!({ "user_id": user, "business": true, "iat": 1_700_000_000, "is_admin": user == 9, "org_id": "acme" })
}

fn rest(cluster: &Cluster, user: u64) -> Rest {
    Rest::new(&cluster.api[0].address(), &sign(&claims(user)))
}

/// Opens a socket that has joined the room.
async fn inside(cluster: &Cluster, path: &str, user: u64, room: u64) -> Socket {
    let address = cluster.fanout[usize::from(user == 2)].address();
    let mut socket = Socket::open_at(&address, path, &sign(&claims(user))).await.expect("it opens");
    if path.starts_with("/ws/") {
        // Sockets of match rooms get another answer.
        socket.act_ok("join_room", json!({ "room_pk": room })).await;
    } else {
        assert_eq!(socket.next().await.expect("the first frame")["action"], "join_room");
    }
    socket
}

async fn cluster() -> Cluster {
    Cluster::start(Size { fanout: 2, ..Size::default() }).await
}

/// Ids of the rooms in a list.
fn ids(list: &Value, key: &str) -> Vec<Value> {
    list.as_array().expect("a list").iter().map(|room| room[key].clone()).collect()
}

#[tokio::test]
async fn message_in_a_direct_room_is_seen_by_every_dialect() {
    let cluster = &cluster().await;
    let (_, made) = rest(cluster, 1).post("/room/add", json!({ "owner": 1, "abonent": 2 })).await;
    let room = made["id"].as_u64().expect("an id");
    let writers = vec![
        ("1", Way::Direct(rest(cluster, 1))),
        ("2", Way::Rest(rest(cluster, 2))),
        ("1", Way::Socket(inside(cluster, "/ws/", 1, room).await)),
    ];
    let readers = vec![
        ("a socket of one", Way::Socket(inside(cluster, "/ws/", 1, room).await)),
        ("a socket of the other", Way::Socket(inside(cluster, "/ws/", 2, room).await)),
        ("the document, for one", Way::Direct(rest(cluster, 1))),
        ("the document, for the other", Way::Direct(rest(cluster, 2))),
        ("the history", Way::Rest(rest(cluster, 1))),
    ];
    Table { cluster, room, writers, readers }.play().await;
}

#[tokio::test]
async fn message_in_a_match_room_is_seen_by_every_dialect() {
    let cluster = &cluster().await;
    let (_, made) =
        rest(cluster, 9).post(paths::ROOMS, json!({ "kind": "match", "users": ["1", "2"] })).await;
    let room = made["id"].as_u64().expect("an id");
    let writers = vec![
        ("1", Way::Match(inside(cluster, "/ws/chat/", 1, room).await)),
        ("9", Way::Match(inside(cluster, "/ws/admin-chat/", 9, room).await)),
        ("2", Way::Rest(rest(cluster, 2))),
        ("2", Way::Socket(inside(cluster, "/ws/", 2, room).await)),
    ];
    let readers = vec![
        ("one", Way::Match(inside(cluster, "/ws/chat/", 1, room).await)),
        ("the other", Way::Match(inside(cluster, "/ws/chat/", 2, room).await)),
        ("an admin", Way::Match(inside(cluster, "/ws/admin-chat/", 9, room).await)),
        ("a native socket", Way::Socket(inside(cluster, "/ws/", 1, room).await)),
        ("the history", Way::Rest(rest(cluster, 2))),
    ];
    Table { cluster, room, writers, readers }.play().await;
}

#[tokio::test]
async fn message_in_a_support_room_is_seen_by_every_dialect() {
    let cluster = &cluster().await;
    let guest = Rest::without_token(&cluster.api[0].address());
    let visit = json!({ "user_id": "7", "org_id": "acme", "portfolio_name": "a", "product_name": "b" });
    let (_, made) = guest.post("/api/v2/room-control/", visit).await;
    let key = text(&made["inserted_id"]);
    let (_, list) = rest(cluster, 1).get(paths::ROOMS).await;
    let room = list["results"][0]["id"].as_u64().expect("an id");
    let writers = vec![
        ("visitor:7", Way::Desk(guest.clone(), key.clone())),
        ("1", Way::Rest(rest(cluster, 1))),
        ("2", Way::Socket(inside(cluster, "/ws/", 2, room).await)),
    ];
    let readers = vec![
        ("an agent's socket", Way::Socket(inside(cluster, "/ws/", 1, room).await)),
        ("another agent's", Way::Socket(inside(cluster, "/ws/", 2, room).await)),
        ("the visitor", Way::Desk(guest, key)),
        ("the history", Way::Rest(rest(cluster, 1))),
    ];
    Table { cluster, room, writers, readers }.play().await;
}

#[tokio::test]
async fn message_in_a_topic_is_seen_by_every_dialect() {
    let cluster = &cluster().await;
    let (_, made) = rest(cluster, 1).post("/api/chat/", json!({ "title": "Dune", "room": "films" })).await;
    let (room, url) = (made["chat"]["id"].as_u64().expect("an id"), text(&made["chat"]["url"]));
    let writers = vec![
        ("1", Way::Socket(inside(cluster, &url, 1, room).await)),
        ("2", Way::Socket(inside(cluster, "/ws/", 2, room).await)),
        ("2", Way::Rest(rest(cluster, 2))),
    ];
    let readers = vec![
        ("its own address", Way::Socket(inside(cluster, &url, 2, room).await)),
        ("a native socket", Way::Socket(inside(cluster, "/ws/", 1, room).await)),
        ("the history", Way::Rest(rest(cluster, 1))),
    ];
    Table { cluster, room, writers, readers }.play().await;
}

#[tokio::test]
async fn dialects_list_their_own_rooms_and_native_lists_all() {
    let cluster = &cluster().await;
    let (one, root) = (rest(cluster, 1), rest(cluster, 9));
    let (_, direct) = one.post("/room/add", json!({ "owner": 1, "abonent": 2 })).await;
    let (_, topic) = one.post("/api/chat/", json!({ "title": "Dune", "room": "films" })).await;
    let (_, pair) = root.post(paths::ROOMS, json!({ "kind": "match", "users": ["1", "2"] })).await;
    let visit = json!({ "user_id": "1", "org_id": "acme", "portfolio_name": "a", "product_name": "b" });
    let (_, desk) = one.post("/api/v2/room-control/", visit).await;
    let public = one.create_room("Tea").await;

    let (_, rooms) = one.get(paths::ROOMS).await;
    let kinds: HashMap<String, Value> = rooms["results"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|room| (text(&room["kind"]), room["id"].clone()))
        .collect();
    assert_eq!(kinds.len(), 5, "{rooms}");
    let made = [&direct["id"], &topic["chat"]["id"], &pair["id"], &json!(public)];
    for (kind, id) in ["direct", "topic", "match", "public"].into_iter().zip(made) {
        assert_eq!(kinds[kind], *id, "{kind}");
    }
    assert_eq!(one.get("/room/list").await.1["room_ids"], json!([direct["id"]]));
    assert_eq!(ids(&one.get("/api/chat/films/").await.1["results"], "id"), [topic["chat"]["id"].clone()]);
    let list = one.get("/api/v2/room-list/?org_id=acme&product_name=b").await.1;
    assert_eq!(ids(&list["rooms"], "_id"), [desk["inserted_id"].clone()]);
    for (path, user) in [("/ws/chat/", 1), ("/ws/admin-chat/", 9)] {
        let token = sign(&claims(user));
        let mut socket = Socket::open_at(&cluster.fanout[0].address(), path, &token).await.expect("it opens");
        assert_eq!(ids(&socket.act_ok("list", json!({})).await, "pk"), [pair["id"].clone()], "{path}");
    }
    // Another dialect's address opens none of them.
    for id in ["topic", "match", "support", "public"].map(|kind| &kinds[kind]) {
        assert_eq!(one.get(&format!("/room/select/{id}")).await.0, StatusCode::NOT_FOUND);
    }
    for id in ["direct", "topic", "support", "public"].map(|kind| &kinds[kind]) {
        let mut socket = Socket::open_at(&cluster.fanout[0].address(), "/ws/chat/", &sign(&claims(1)))
            .await
            .expect("it opens");
        let answer = socket.act("join_room", json!({ "room_pk": id })).await;
        assert_eq!(answer.status, 404, "{answer}");
        let path = format!("/chat/films/{id}/");
        if *id != kinds["topic"] {
            assert!(Socket::open_at(&cluster.fanout[0].address(), &path, &sign(&claims(1))).await.is_err());
        }
    }
}
