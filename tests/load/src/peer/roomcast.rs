//! Roomcast: rooms over REST, sockets by `subscribe`, messages by any of its three ways in.

use std::{cell::RefCell, io::Write as _, net::SocketAddr};

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::{Value, json};
use shared::{
    clock::Timestamp,
    event::{ChatMessage, Event, EventName, header},
    id::{RoomId, ShardCount, UserId},
    subject::Channel,
};

use super::{Peer, Place, Post, Reply, Route, Seat, json};
use crate::{
    config::{Config, Scenario},
    http, link,
};

/// How messages come to Roomcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Publish {
    /// By `POST`: the whole system, and each message is acknowledged.
    Http,
    /// By `create_message` of a room's first sockets: the whole system.
    Socket,
    /// To fanout alone, as the broker's republish would say it. Nothing is stored: for a deployment that is
    /// thrown away afterwards, on a broker whose user may publish there.
    Live,
}

/// Requests that are under way at once while rooms are made.
const TOGETHER: usize = 50;
/// How long tokens count, in seconds: longer than any run.
const TOKEN: i64 = 86_400;

pub(super) struct Roomcast {
    address: SocketAddr,
    api: SocketAddr,
    publish: Publish,
    broker: SocketAddr,
    shards: ShardCount,
    secret: String,
    rooms: Vec<RoomId>,
    /// Sockets are seen in their rooms, and may write there; else they only hear them.
    joins: bool,
    /// Each writer's token, made once.
    tokens: RefCell<Vec<String>>,
}

impl Roomcast {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            address: config.address,
            api: config.api(),
            publish: config.publish,
            broker: link::broker(&config.nats_url)?.address,
            shards: ShardCount::new(config.shards).context("ROOMCAST_SHARDS")?,
            secret: shared::token::kept_secret(config.jwt_secret.as_deref(), &config.data)?,
            rooms: Vec::new(),
            joins: config.publish == Publish::Socket || config.scenario == Scenario::Mixed,
            tokens: RefCell::default(),
        })
    }

    fn authorization(&self, user: &str) -> String {
        let expires = Timestamp::now().unix_ms() / 1000 + TOKEN;
        let token = shared::token::sign(&self.secret, &json!({ "user_id": user, "exp": expires }))
            .expect("claims are JSON");
        format!("Authorization: Bearer {token}\r\n")
    }

    fn post_http(&self, out: &mut Vec<u8>, post: Post<'_>, room: RoomId) {
        let mut tokens = self.tokens.borrow_mut();
        while tokens.len() <= post.stream {
            let user = format!("writer-{}", tokens.len());
            tokens.push(self.authorization(&user));
        }
        let body = format!(r#"{{"message":"{}"}}"#, post.text);
        let path = format!("/api/v1/rooms/{room}/messages");
        http::request(out, "POST", &path, &tokens[post.stream], body.as_bytes());
    }

    /// The headers that the broker would give it, with a sequence above all that were there.
    fn post_live(&self, out: &mut Vec<u8>, post: Post<'_>, room: RoomId) {
        let user: UserId = format!("writer-{}", post.stream).parse().expect("an id");
        let now = Timestamp::now();
        let message = ChatMessage {
            message: post.text.to_owned(),
            room,
            user,
            created_at: now,
            client_id: None,
            detail: None,
        };
        let payload = Event::ChatMessage(message).encode();
        let subject = Channel::Room(room).live_only(self.shards, EventName::ChatMessage.as_str());
        let headers = format!(
            "NATS/1.0\r\nNats-Sequence: {}\r\nNats-Last-Sequence: 0\r\n{}: {}\r\n\r\n",
            FIRST_LIVE + post.number,
            header::APPENDED,
            now.unix_us()
        );
        // Writing to memory does not fail.
        let _ =
            write!(out, "HPUB {subject} {} {}\r\n{headers}", headers.len(), headers.len() + payload.len());
        out.extend(payload);
        out.extend(b"\r\n");
    }
}

/// Above what any trial's log has come to.
const FIRST_LIVE: u64 = 1 << 40;

/// The place that an answer names; what a resume could not have is refused.
fn joined(data: &Value) -> Reply {
    let position = if data["position"].is_object() { &data["position"] } else { data };
    if position["recovered"] == false {
        return Reply::Refused("what was missed is not in the log any more".to_owned());
    }
    let place = position["id"].as_u64();
    Reply::Joined(place.map(|since| Place { since, epoch: position["epoch"].to_string() }))
}

/// The id of a push, which stands before anything that people write.
fn number(frame: &[u8]) -> Option<u64> {
    let start = memchr::memmem::find(frame, br#","id":"#)? + 6;
    let digits = frame[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&frame[start..start + digits]).ok()?.parse().ok()
}

impl Peer for Roomcast {
    fn prepare(&mut self, rooms: usize) -> anyhow::Result<()> {
        let mut client = http::Client::open(self.api, self.authorization("load"))?;
        let new: Vec<_> = (0..rooms)
            .map(|n| ("/api/v1/rooms".to_owned(), json!({ "name": format!("load {n}") })))
            .collect();
        for some in new.chunks(TOGETHER) {
            for room in client.send_all("POST", some)? {
                self.rooms.push(RoomId(room["id"].as_u64().context("a room has an id")?));
            }
        }
        Ok(())
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn opening(&self, seat: Seat) -> (String, String) {
        ("/ws/".to_owned(), self.authorization(&format!("load-{}", seat.socket)))
    }

    fn join(&self, seat: Seat) -> Vec<String> {
        let room = self.rooms[seat.room];
        let frame = if self.joins {
            json!({ "action": "join_room", "room_pk": room, "request_id": 1 })
        } else {
            json!({ "action": "subscribe", "channel": Channel::Room(room), "request_id": 1 })
        };
        vec![frame.to_string()]
    }

    fn leave(&self, seat: Seat) -> Option<String> {
        let room = self.rooms[seat.room];
        Some(json!({ "action": "leave_room", "room_pk": room, "request_id": 3 }).to_string())
    }

    fn resume(&self, seat: Seat, place: &Place) -> Option<String> {
        let channel = Channel::Room(self.rooms[seat.room]);
        let Place { since, epoch } = place;
        let epoch: Value = serde_json::from_str(epoch).ok()?;
        let frame = json!({ "action": "subscribe", "channel": channel, "since": since, "epoch": epoch, "request_id": 1 });
        Some(frame.to_string())
    }

    fn number(&self, frame: &[u8]) -> Option<u64> {
        number(frame)
    }

    fn is_push(&self, frame: &[u8]) -> bool {
        frame.starts_with(br#"{"channel":"#)
    }

    fn react(&self, _: Seat, frame: &[u8]) -> Reply {
        if self.is_push(frame) {
            return Reply::Nothing;
        }
        let answer = json(frame);
        match (answer["response_status"].as_u64(), answer["action"].as_str()) {
            (Some(200..300), Some("subscribe" | "join_room")) => joined(&answer["data"]),
            (Some(200..300), Some("leave_room")) => Reply::Left,
            (Some(200..300), _) | (None, _) => Reply::Nothing,
            _ => Reply::Refused(answer.to_string()),
        }
    }

    fn route(&self) -> Route {
        match self.publish {
            Publish::Http => Route::Http(self.api),
            Publish::Socket => Route::Socket,
            Publish::Live => Route::Nats(self.broker),
        }
    }

    fn post(&self, out: &mut Vec<u8>, post: Post<'_>) {
        let room = self.rooms[post.room];
        match self.publish {
            Publish::Http => self.post_http(out, post, room),
            Publish::Live => self.post_live(out, post, room),
            Publish::Socket => {
                // Writing to memory does not fail.
                let _ = write!(
                    out,
                    r#"{{"action":"create_message","room_pk":{room},"msg_text":"{}","request_id":2}}"#,
                    post.text
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_has_a_number() {
        let push = br#"{"channel":"room-7","event":"chat-message","id":42,"data":{"message":",\"id\":1"}}"#;
        assert_eq!(number(push), Some(42));
        assert_eq!(number(br#"{"channel":"room-7","event":"typing","data":{}}"#), None);
    }

    #[test]
    fn a_place_is_where_the_answer_says_and_half_a_resume_is_refused() {
        let place = Place { since: 42, epoch: "3".to_owned() };
        let subscribed = json!({ "id": 42, "epoch": 3, "recovered": true });
        assert_eq!(joined(&subscribed), Reply::Joined(Some(place.clone())));
        let in_room = json!({ "id": 7, "position": { "id": 42, "epoch": 3, "recovered": true } });
        assert_eq!(joined(&in_room), Reply::Joined(Some(place)));
        let half = json!({ "id": 42, "epoch": 3, "recovered": false });
        assert!(matches!(joined(&half), Reply::Refused(_)));
    }
}
