//! Roomcast: rooms over REST, sockets by `subscribe`, messages by any of its three ways in.

use std::{cell::RefCell, io::Write as _, net::SocketAddr};

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::json;
use shared::{
    clock::Timestamp,
    event::{ChatMessage, Event, EventName, header},
    id::{RoomId, ShardCount, UserId},
    subject::Channel,
};

use super::{Peer, Post, Reply, Route, Seat, json};
use crate::{config::Config, http, link};

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
            secret: secret(config)?,
            rooms: Vec::new(),
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

fn secret(config: &Config) -> anyhow::Result<String> {
    if let Some(secret) = &config.jwt_secret {
        return Ok(secret.clone());
    }
    let file = config.data.join("secrets/jwt");
    let secret = std::fs::read_to_string(&file).with_context(|| {
        format!("ROOMCAST_JWT_SECRET is not set, and there is no secret in {}", file.display())
    })?;
    Ok(secret.trim_end().to_owned())
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
        match self.publish {
            // Who writes by a socket is in the room.
            Publish::Socket => {
                vec![json!({ "action": "join_room", "room_pk": room, "request_id": 1 }).to_string()]
            }
            Publish::Http | Publish::Live => {
                let channel = Channel::Room(room);
                vec![json!({ "action": "subscribe", "channel": channel, "request_id": 1 }).to_string()]
            }
        }
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
            (Some(200..300), Some("subscribe" | "join_room")) => Reply::Joined,
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
