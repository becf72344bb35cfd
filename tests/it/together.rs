//! Sends one message in each dialect, and checks that the broker and every reader of the room get it, each in the form
//! of its own dialect.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use protocol::{id::RoomId, subject::Channel};
use reqwest::StatusCode;
use serde_json::{Value, json};
use service::nats::BrokerUser;
use tests::native;
use tests::paths;
use tests::{
    TIMEOUT,
    client::{Rest, Socket},
    cluster::{Cluster, Size, sign},
};

/// A client of one dialect, which writes and reads messages.
enum DialectClient {
    /// `/api/v1`.
    Rest(Rest),
    /// A socket at `/ws/`, or at the path of a topic.
    Socket(Socket),
    /// A socket at `/ws/chat/` or `/ws/admin-chat/`.
    Match(Socket),
    /// `/room/…`.
    Direct(Rest),
    /// `/api/v2/…`, with the key of the room.
    Support(Rest, String),
}

/// A message in the form of a dialect: its id if the dialect shows it, its author and its text.
type SeenMessage = (Option<u64>, String, String);

fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn read_message(message: &Value, [id, author, message_text]: [&str; 3]) -> SeenMessage {
    let field = |path: &str| message.pointer(path).unwrap_or_else(|| panic!("{path}: {message}"));
    let id = (!id.is_empty()).then(|| field(id).as_u64().expect("a valid number"));
    (id, as_text(field(author)), as_text(field(message_text)))
}

impl DialectClient {
    async fn send(&mut self, room: u64, message_text: &str) {
        let answer = match self {
            Self::Rest(rest) => {
                rest.send_message(room, message_text).await;
                return;
            }
            Self::Socket(socket) => {
                socket.send_message_to(room, message_text).await;
                return;
            }
            // The answer is the push of the message, which may arrive after other pushes.
            Self::Match(socket) => {
                let frame = json!({ "action": "create_message", "msg_text": message_text });
                return socket.send_text(&frame.to_string()).await.expect("the socket is open");
            }
            Self::Direct(rest) => {
                rest.post("/room/list", json!({ "room_id": room, "message": message_text })).await
            }
            Self::Support(rest, key) => {
                let body = json!({
                    "type": "create_message", "room_id": key, "message_data": message_text, "side": true,
                    "auther": "client", "message_type": "text",
                });
                rest.post("/api/v2/room-service/", body).await
            }
        };
        assert_eq!(answer.0, StatusCode::OK, "{answer:?}");
    }

    /// Reads the newest message, or receives the next push.
    async fn read(&mut self, room: u64) -> SeenMessage {
        match self {
            Self::Rest(rest) => {
                let (_, page) = rest.get(&format!("{}?limit=1", paths::messages(room))).await;
                read_message(&page["results"][0], ["/id", "/user", "/message"])
            }
            Self::Socket(socket) => {
                let push = socket.event("chat-message").await;
                read_message(push.frame(), ["/id", "/data/user", "/data/message"])
            }
            Self::Match(socket) => {
                let push = socket.push().await;
                assert_eq!(push.frame()["action"], "create_message", "{push}");
                read_message(push.frame(), ["/data/id", "/data/user/id", "/data/text"])
            }
            Self::Direct(rest) => {
                // This request waits until acknowledged messages are in Postgres.
                let (_, rooms) = rest.get(&format!("/room/select/{room}")).await;
                let messages = rooms["rooms"][room.to_string()]["messages"].as_object();
                let last = messages.and_then(|all| all.values().max_by_key(|message| message["id"].as_u64()));
                read_message(last.unwrap_or(&rooms), ["/id", "/author_id", "/message"])
            }
            Self::Support(rest, key) => {
                let path = format!("/api/v2/room-service/?type=get_messages&room_id={key}");
                let (_, page) = rest.get(&path).await;
                let last = page["response"].as_array().and_then(|all| all.last());
                read_message(last.unwrap_or(&page), ["", "/auther", "/message_data"])
            }
        }
    }
}

/// Writers and readers of one room.
struct Conversation<'a> {
    cluster: &'a Cluster,
    room: u64,
    /// Each writer with the author that readers must see.
    writers: Vec<(&'static str, DialectClient)>,
    readers: Vec<(&'static str, DialectClient)>,
}

impl Conversation<'_> {
    /// Sends a message by each writer, and checks that all readers get it.
    async fn play(mut self) {
        let mut events = self.subscribe_to_live_events().await;
        for (n, (author, writer)) in self.writers.iter_mut().enumerate() {
            let message_text = format!("{n} by {author}");
            writer.send(self.room, &message_text).await;
            let mut ids = Vec::new();
            let mut event = tokio::time::timeout(TIMEOUT, events.next()).await;
            while matches!(&event, Ok(Some(event)) if !event.subject.ends_with(".chat-message")) {
                event = tokio::time::timeout(TIMEOUT, events.next()).await;
            }
            let event =
                event.ok().flatten().unwrap_or_else(|| panic!("the broker must publish {message_text:?}"));
            let payload: Value = serde_json::from_slice(&event.payload).expect("valid JSON");
            assert_eq!(payload["message"], *message_text);
            let sequence =
                event.headers.and_then(|headers| headers.get("Nats-Sequence")?.as_str().parse().ok());
            ids.push(sequence.expect("a live copy has its sequence"));
            for (name, reader) in &mut self.readers {
                let (id, seen_author, as_text) = reader.read(self.room).await;
                // In the support dialect the author of a visitor's message is "client".
                let is_visitor = author.starts_with("visitor:") && seen_author == "client";
                assert!(
                    seen_author == *author || is_visitor,
                    "{name}: {message_text:?} must have the author {author}, not {seen_author}"
                );
                assert_eq!(as_text, message_text, "{name}");
                ids.extend(id);
            }
            ids.dedup();
            assert_eq!(ids.len(), 1, "{message_text}: all readers must see the same id: {ids:?}");
        }
    }

    /// Subscribes to the live copies of the room's events.
    async fn subscribe_to_live_events(&self) -> async_nats::Subscriber {
        let log = self.cluster.jetstream(BrokerUser::Fanout).await;
        let shards = log::discover(&log).await.expect("the log exists").shards;
        let subject = Channel::Room(RoomId(self.room)).live_filter(shards);
        let events = log.client().subscribe(subject).await.expect("the broker accepts the subscription");
        // An answer on the same connection shows that the broker has processed the subscription.
        log::discover(&log).await.expect("the log exists");
        events
    }
}

/// Claims of a user that are valid in all dialects. User 9 is an admin.
fn claims(user: u64) -> Value {
    json!({ "user_id": user, "business": true, "iat": 1_700_000_000, "is_admin": user == 9, "org_id": "acme" })
}

fn rest(cluster: &Cluster, user: u64) -> Rest {
    Rest::new(&cluster.api[0].address(), &sign(&claims(user)))
}

/// Opens a socket and joins the room.
async fn open_joined(cluster: &Cluster, path: &str, user: u64, room: u64) -> Socket {
    let address = cluster.fanout[usize::from(user == 2)].address();
    let mut socket = Socket::open_at(&address, path, &sign(&claims(user))).await.expect("the socket opens");
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
    list.as_array().expect("the answer is a list").iter().map(|room| room[key].clone()).collect()
}

#[tokio::test]
async fn message_in_a_direct_room_is_seen_by_every_dialect() {
    let cluster = &cluster().await;
    let (_, created) = rest(cluster, 1).post("/room/add", json!({ "owner": 1, "abonent": 2 })).await;
    let room = native::id(&created);
    let writers = vec![
        ("1", DialectClient::Direct(rest(cluster, 1))),
        ("2", DialectClient::Rest(rest(cluster, 2))),
        ("1", DialectClient::Socket(open_joined(cluster, "/ws/", 1, room).await)),
    ];
    let readers = vec![
        ("a socket of one", DialectClient::Socket(open_joined(cluster, "/ws/", 1, room).await)),
        ("a socket of the other", DialectClient::Socket(open_joined(cluster, "/ws/", 2, room).await)),
        ("the document, for one", DialectClient::Direct(rest(cluster, 1))),
        ("the document, for the other", DialectClient::Direct(rest(cluster, 2))),
        ("the history", DialectClient::Rest(rest(cluster, 1))),
    ];
    Conversation { cluster, room, writers, readers }.play().await;
}

#[tokio::test]
async fn message_in_a_match_room_is_seen_by_every_dialect() {
    let cluster = &cluster().await;
    let (_, created) =
        rest(cluster, 9).post(paths::ROOMS, json!({ "kind": "match", "users": ["1", "2"] })).await;
    let room = native::id(&created);
    let writers = vec![
        ("1", DialectClient::Match(open_joined(cluster, "/ws/chat/", 1, room).await)),
        ("9", DialectClient::Match(open_joined(cluster, "/ws/admin-chat/", 9, room).await)),
        ("2", DialectClient::Rest(rest(cluster, 2))),
        ("2", DialectClient::Socket(open_joined(cluster, "/ws/", 2, room).await)),
    ];
    let readers = vec![
        ("one", DialectClient::Match(open_joined(cluster, "/ws/chat/", 1, room).await)),
        ("the other", DialectClient::Match(open_joined(cluster, "/ws/chat/", 2, room).await)),
        ("an admin", DialectClient::Match(open_joined(cluster, "/ws/admin-chat/", 9, room).await)),
        ("a native socket", DialectClient::Socket(open_joined(cluster, "/ws/", 1, room).await)),
        ("the history", DialectClient::Rest(rest(cluster, 2))),
    ];
    Conversation { cluster, room, writers, readers }.play().await;
}

#[tokio::test]
async fn message_in_a_support_room_is_seen_by_every_dialect() {
    let cluster = &cluster().await;
    let guest = Rest::without_token(&cluster.api[0].address());
    let visit = json!({ "user_id": "7", "org_id": "acme", "portfolio_name": "a", "product_name": "b" });
    let (_, created) = guest.post("/api/v2/room-control/", visit).await;
    let key = as_text(&created["inserted_id"]);
    let (_, list) = rest(cluster, 1).get(paths::ROOMS).await;
    let room = native::id(&list["results"][0]);
    let writers = vec![
        ("visitor:7", DialectClient::Support(guest.clone(), key.clone())),
        ("1", DialectClient::Rest(rest(cluster, 1))),
        ("2", DialectClient::Socket(open_joined(cluster, "/ws/", 2, room).await)),
    ];
    let readers = vec![
        ("an agent's socket", DialectClient::Socket(open_joined(cluster, "/ws/", 1, room).await)),
        ("another agent's", DialectClient::Socket(open_joined(cluster, "/ws/", 2, room).await)),
        ("the visitor", DialectClient::Support(guest, key)),
        ("the history", DialectClient::Rest(rest(cluster, 1))),
    ];
    Conversation { cluster, room, writers, readers }.play().await;
}

#[tokio::test]
async fn message_in_a_topic_is_seen_by_every_dialect() {
    let cluster = &cluster().await;
    let (_, created) = rest(cluster, 1).post("/api/chat/", json!({ "title": "Dune", "room": "films" })).await;
    let (room, url) = (native::id(&created["chat"]), as_text(&created["chat"]["url"]));
    let writers = vec![
        ("1", DialectClient::Socket(open_joined(cluster, &url, 1, room).await)),
        ("2", DialectClient::Socket(open_joined(cluster, "/ws/", 2, room).await)),
        ("2", DialectClient::Rest(rest(cluster, 2))),
    ];
    let readers = vec![
        ("its own address", DialectClient::Socket(open_joined(cluster, &url, 2, room).await)),
        ("a native socket", DialectClient::Socket(open_joined(cluster, "/ws/", 1, room).await)),
        ("the history", DialectClient::Rest(rest(cluster, 1))),
    ];
    Conversation { cluster, room, writers, readers }.play().await;
}

#[tokio::test]
async fn dialects_list_their_own_rooms_and_native_lists_all() {
    let cluster = &cluster().await;
    let (user_client, admin_client) = (rest(cluster, 1), rest(cluster, 9));
    let (_, direct) = user_client.post("/room/add", json!({ "owner": 1, "abonent": 2 })).await;
    let (_, topic) = user_client.post("/api/chat/", json!({ "title": "Dune", "room": "films" })).await;
    let (_, match_room) =
        admin_client.post(paths::ROOMS, json!({ "kind": "match", "users": ["1", "2"] })).await;
    let visit = json!({ "user_id": "1", "org_id": "acme", "portfolio_name": "a", "product_name": "b" });
    let (_, support_room) = user_client.post("/api/v2/room-control/", visit).await;
    let public = user_client.create_room("Tea").await;

    let (_, rooms) = user_client.get(paths::ROOMS).await;
    let kinds: HashMap<String, Value> = rooms["results"]
        .as_array()
        .expect("the answer is a list")
        .iter()
        .map(|room| (as_text(&room["kind"]), room["id"].clone()))
        .collect();
    assert_eq!(kinds.len(), 5, "{rooms}");
    let created = [&direct["id"], &topic["chat"]["id"], &match_room["id"], &json!(public)];
    for (kind, id) in ["direct", "topic", "match", "public"].into_iter().zip(created) {
        assert_eq!(kinds[kind], *id, "{kind}");
    }
    assert_eq!(user_client.get("/room/list").await.1["room_ids"], json!([direct["id"]]));
    assert_eq!(
        ids(&user_client.get("/api/chat/films/").await.1["results"], "id"),
        [topic["chat"]["id"].clone()]
    );
    let list = user_client.get("/api/v2/room-list/?org_id=acme&product_name=b").await.1;
    assert_eq!(ids(&list["rooms"], "_id"), [support_room["inserted_id"].clone()]);
    for (path, user) in [("/ws/chat/", 1), ("/ws/admin-chat/", 9)] {
        let token = sign(&claims(user));
        let mut socket =
            Socket::open_at(&cluster.fanout[0].address(), path, &token).await.expect("the socket opens");
        assert_eq!(ids(&socket.act_ok("list", json!({})).await, "pk"), [match_room["id"].clone()], "{path}");
    }
    // A dialect does not open the rooms of another one.
    for id in ["topic", "match", "support", "public"].map(|kind| &kinds[kind]) {
        assert_eq!(user_client.get(&format!("/room/select/{id}")).await.0, StatusCode::NOT_FOUND);
    }
    for id in ["direct", "topic", "support", "public"].map(|kind| &kinds[kind]) {
        let mut socket = Socket::open_at(&cluster.fanout[0].address(), "/ws/chat/", &sign(&claims(1)))
            .await
            .expect("the socket opens");
        let answer = socket.act("join_room", json!({ "room_pk": id })).await;
        assert_eq!(answer.status, 404, "{answer}");
        let path = format!("/chat/films/{id}/");
        if *id != kinds["topic"] {
            assert!(Socket::open_at(&cluster.fanout[0].address(), &path, &sign(&claims(1))).await.is_err());
        }
    }
}
