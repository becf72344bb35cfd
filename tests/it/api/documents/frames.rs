//! Plays every action on a real socket: frames, answers and pushes are as the AsyncAPI document says.

use reqwest::Method;
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Size, sign, token},
    folder::Folder,
    native::SocketAnswer,
};
use tokio::process::Command;

use super::{base, file, python, run};

/// A socket that records its frames.
struct RecordingSocket<'a> {
    channel: &'a str,
    socket: Socket,
    lines: String,
}

impl<'a> RecordingSocket<'a> {
    async fn open(cluster: &Cluster, channel: &'a str, path: &str, token: &str) -> Self {
        let socket = Socket::open_at(&cluster.fanout[0].address(), path, token).await;
        Self { channel, socket: socket.expect("the node takes sockets"), lines: String::new() }
    }

    fn record(&mut self, sent: bool, frame: &Value) {
        let line = json!({ "channel": self.channel, "sent": sent, "frame": frame });
        self.lines.push_str(&format!("{line}\n"));
    }

    /// Plays an action; records the request, the pushes meanwhile, and the answer.
    async fn play(&mut self, action: &str, mut body: Value) -> SocketAnswer {
        let answer = self.socket.act(action, body.clone()).await;
        body["action"] = action.into();
        self.record(true, &body);
        self.record(false, answer.frame());
        answer
    }

    /// Plays an action that must succeed.
    async fn act_ok(&mut self, action: &str, body: Value) -> Value {
        let answer = self.play(action, body).await;
        assert!(answer.is_success(), "{action} succeeds: {answer}");
        answer.data
    }

    /// Records the next push of an event.
    async fn record_event(&mut self, event: &str) {
        let push = self.socket.event(event).await;
        self.record(false, push.frame());
    }

    /// Records pushes until all of these events were pushed.
    async fn record_until(&mut self, events: &[&str]) {
        let mut awaited = events.to_vec();
        while !awaited.is_empty() {
            let push = self.socket.push().await;
            awaited.retain(|event| push.event != *event);
            self.record(false, push.frame());
        }
    }
}

async fn request_ok(rest: &Rest, method: Method, path: &str, body: Value) -> Value {
    let (status, answer) = rest.send(method, path, &body).await.expect("the node answers");
    assert!(status.is_success(), "{path}: {answer}");
    answer
}

/// Plays the actions of people in a room.
async fn play_room_actions(cluster: &Cluster, ann: &mut RecordingSocket<'_>, bob: &mut RecordingSocket<'_>) {
    let rest = cluster.rest(0, "7");
    ann.act_ok("subscribe", json!({ "channel": "system" })).await;
    let room = rest.create_room("tea").await;
    ann.act_ok("join_room", json!({ "room_pk": room })).await;
    bob.act_ok("join_room", json!({ "room_pk": room })).await;
    bob.act_ok("subscribe", json!({ "channel": format!("room-{room}"), "since": 0, "epoch": 0 })).await;
    let message =
        ann.act_ok("create_message", json!({ "msg_text": "hi", "client_id": "a" })).await["id"].clone();
    ann.act_ok("edit_message", json!({ "msg_id": message, "edited_msg_text": "hi!" })).await;
    bob.act_ok("history", json!({ "limit": 5 })).await;
    bob.act_ok("mark_read", json!({ "message_id": message })).await;
    bob.act_ok("current_room_info", json!({})).await;
    bob.act_ok("list", json!({})).await;
    bob.act_ok("typing", json!({ "room_pk": room })).await;
    bob.act_ok("signal", json!({ "user": "7", "data": { "sdp": 1 } })).await;
    ann.act_ok("delete_messages", json!({ "msg_id_list": [message] })).await;
    request_ok(&rest, Method::PATCH, &paths::room(room), json!({ "name": "Tea" })).await;
    bob.act_ok("leave_room", json!({})).await;
    bob.act_ok("ping", json!({})).await;
    bob.act_ok("authenticate", json!({ "token": token("8") })).await;
    let refused = bob.socket.act("nonsense", json!({})).await;
    bob.record(false, refused.frame());
    ann.record_until(&["chatroom", "participant-join", "chat-message", "message-edit", "typing", "signal"])
        .await;
    bob.record_until(&["message-delete", "message-read", "room-update"]).await;
    ann.record_until(&["participant-leave"]).await;
}

/// Causes the pushes about people, invitations, teams, topics and direct rooms.
async fn cause_membership_pushes(
    cluster: &Cluster,
    ann: &mut RecordingSocket<'_>,
    bob: &mut RecordingSocket<'_>,
) {
    let (rest, other) = (cluster.rest(0, "7"), cluster.rest(0, "8"));
    bob.act_ok("subscribe", json!({ "channel": "user-8" })).await;
    let elsewhere = cluster.socket(1, "8").await;
    bob.record_until(&["online"]).await;
    drop(elsewhere);
    bob.record_until(&["offline"]).await;
    let room =
        request_ok(&rest, Method::POST, paths::ROOMS, json!({ "name": "board", "private": true })).await;
    let room = room["id"].clone();
    ann.act_ok("join_room", json!({ "room_pk": room })).await;
    let invited = ann.act_ok("invite", json!({ "room_pk": room, "user": "8" })).await["id"].clone();
    bob.record_until(&["invitation"]).await;
    request_ok(&other, Method::POST, &paths::accept(&invited), Value::Null).await;
    bob.act_ok("join_room", json!({ "room_pk": room })).await;
    request_ok(&rest, Method::DELETE, &paths::member(room, "8"), Value::Null).await;
    bob.record_until(&["invitation-answer", "unsubscribed"]).await;
    ann.record_until(&["member-add", "member-remove"]).await;

    let team = request_ok(&rest, Method::POST, paths::TEAMS, json!({ "name": "crew" })).await["id"].clone();
    ann.act_ok("subscribe", json!({ "channel": format!("team-{team}") })).await;
    for method in [Method::PUT, Method::DELETE] {
        request_ok(&rest, method, &paths::team_member(&team, 8), Value::Null).await;
    }
    ann.record_until(&["team-member-add", "team-member-remove"]).await;
    ann.act_ok("unsubscribe", json!({ "channel": format!("team-{team}") })).await;

    let topic = json!({ "title": "Potter", "room": "films" });
    let topic = request_ok(&rest, Method::POST, "/api/chat/", topic).await["chat"]["id"].clone();
    ann.act_ok("topic_info", json!({ "category": "films", "room_pk": topic })).await;
    let pair = request_ok(&other, Method::POST, "/room/add", json!({ "owner": 8, "abonent": 7 })).await["id"]
        .clone();
    request_ok(&other, Method::GET, &format!("/room/select/{pair}"), Value::Null).await;
    request_ok(&other, Method::GET, "/webrtc/cameraOn", Value::Null).await;
    let root = Rest::new(&cluster.api[0].address(), &sign(&json!({ "user_id": "9", "is_admin": true })));
    request_ok(&root, Method::PUT, &paths::user(8), json!({ "username": "Bob" })).await;
    bob.record_until(&["room-select", "camera", "profile"]).await;
    ann.record_until(&["camera", "profile"]).await;
}

/// Causes the pushes about a crowd, and waits for a position, which is pushed every 30 s.
async fn cause_crowd_pushes(cluster: &Cluster, ann: &mut RecordingSocket<'_>) {
    let room = cluster.rest(0, "7").create_room("stadium").await;
    ann.act_ok("join_room", json!({ "room_pk": room })).await;
    let _fans = crate::fanout::crowd::fill(cluster, room).await;
    ann.record_event("presence").await;
    ann.record_event("position").await;
}

/// Plays the seven actions of a match socket, or those that an admin's socket has.
async fn play_match(socket: &mut RecordingSocket<'_>, room: &Value) {
    socket.play("create_message", json!({ "msg_text": "too early" })).await;
    socket.act_ok("list", json!({})).await;
    socket.act_ok("join_room", json!({ "room_pk": room })).await;
    if socket.channel == "match" {
        socket.act_ok("current_room_info", json!({})).await;
    }
    let message = socket.act_ok("create_message", json!({ "msg_text": "hello" })).await["id"].clone();
    socket.act_ok("edit_message", json!({ "msg_id": message, "edited_msg_text": "edit" })).await;
    socket.act_ok("delete_messages", json!({ "msg_id_list": [message] })).await;
    socket.act_ok("leave_room", json!({})).await;
}

#[tokio::test]
async fn frames_have_the_forms_of_the_asyncapi_document_for_every_action() {
    let cluster = Cluster::start(Size { fanout: 2, ..Size::default() }).await;
    let mut ann = RecordingSocket::open(&cluster, "native", "/ws/", &token("7")).await;
    let mut bob = RecordingSocket::open(&cluster, "native", "/ws/", &token("8")).await;
    play_room_actions(&cluster, &mut ann, &mut bob).await;
    cause_membership_pushes(&cluster, &mut ann, &mut bob).await;
    cause_crowd_pushes(&cluster, &mut ann).await;

    let claims = |user: u64| json!({ "user_id": user, "iat": 1_700_000_000, "business": true });
    let admin = sign(&json!({ "user_id": 9, "is_admin": true }));
    let root = Rest::new(&cluster.api[0].address(), &admin);
    let (one, two) = (sign(&claims(1)), sign(&claims(2)));
    let mut one = RecordingSocket::open(&cluster, "match", "/ws/chat/", &one).await;
    let _two = RecordingSocket::open(&cluster, "match", "/ws/chat/", &two).await;
    let made = json!({ "kind": "match", "users": ["1", "2"] });
    let room = request_ok(&root, Method::POST, paths::ROOMS, made).await["id"].clone();
    play_match(&mut one, &room).await;
    let mut admin = RecordingSocket::open(&cluster, "match-admin", "/ws/admin-chat/", &admin).await;
    play_match(&mut admin, &room).await;

    let folder = Folder::new();
    let frames = folder.path().join("frames");
    std::fs::write(&frames, [ann.lines, bob.lines, one.lines, admin.lines].concat()).expect("a file");
    run(Command::new(python()).arg(file("frames.py")).arg(base(&cluster)).arg(&frames)).await;
}
