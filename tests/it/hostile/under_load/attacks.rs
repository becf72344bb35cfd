//! Defines the attacks: each is done again and again by a client that knows what it may see of the server.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tests::{TIMEOUT, raw::Raw};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

/// Number of clients that run an attack at the same time.
const ATTACKERS: usize = 8;
/// Number of requests sent in one write, so that the server, not the connection, is the bottleneck.
const PIPELINED: usize = 50;
/// Pause between connections that are left open, so that there are some hundreds of them, not more each second.
const PACE: Duration = Duration::from_millis(20);

/// The nodes under attack, and what an attacker knows.
pub(super) struct Target {
    pub api: String,
    pub fanout: String,
    /// Rooms of the steady load.
    pub rooms: Vec<u64>,
    /// A room with more events than a ring holds, and its first message.
    pub old: (u64, u64),
    /// User id of a person in the first room.
    pub victim: String,
    /// A valid token.
    pub token: String,
    /// Connections that the attackers never end.
    pub kept: Mutex<Vec<Raw>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Attack {
    MadeUpWords,
    SilentConnections,
    UnreadAnswers,
    RefusedBodies,
    Handshakes,
    WrongTokens,
    RoomsWithoutToken,
    Searches,
    Garbage,
    Pings,
    Signals,
    OldPositions,
    UnreadPushes,
}

impl Attack {
    pub(super) const ALL: [Self; 13] = [
        Self::MadeUpWords,
        Self::SilentConnections,
        Self::UnreadAnswers,
        Self::RefusedBodies,
        Self::Handshakes,
        Self::WrongTokens,
        Self::RoomsWithoutToken,
        Self::Searches,
        Self::Garbage,
        Self::Pings,
        Self::Signals,
        Self::OldPositions,
        Self::UnreadPushes,
    ];

    /// Header with the address of this attack. Each attack has its own address.
    fn address(self) -> String {
        format!("x-forwarded-for: 203.0.113.{}\r\n", self as u8)
    }

    async fn once(self, target: &Target) {
        let (api, fanout) = (&target.api, &target.fanout);
        let bearer = format!("authorization: Bearer {}\r\n", target.token);
        match self {
            Self::MadeUpWords => {
                let request = |_| {
                    let word = format!("X{:x}", rand::random::<u64>());
                    self.request(&format!("{word} /{word}?{word}"), &format!("{word}: {word}\r\n"), "")
                };
                exchange(api, &many(request)).await;
                exchange(fanout, &many(request)).await;
            }
            Self::SilentConnections => {
                for begun in ["", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI", "GET / HTTP/1.1\r\nhost: loc"] {
                    for address in [api, fanout] {
                        keep(target, address, begun.as_bytes()).await;
                    }
                }
            }
            Self::UnreadAnswers => {
                let request = |_| self.request("GET /openapi.json", "", "");
                leave_unread(api, &many(request)).await;
            }
            Self::RefusedBodies => {
                let body = "x".repeat(3 << 20);
                for more in ["", &bearer] {
                    exchange(api, self.request("POST /api/v1/rooms", more, &body).as_bytes()).await;
                }
                exchange(fanout, self.request("POST /ws/", &bearer, &body).as_bytes()).await;
            }
            Self::Handshakes => {
                for more in ["", "authorization: Bearer x\r\n", &forged(&bearer)] {
                    let answer = Raw::ask(fanout, &self.handshake(more)).await;
                    assert!([401, 429].contains(&answer.status), "{}", answer.head);
                }
            }
            Self::WrongTokens => {
                let forged = forged(&bearer);
                exchange(api, &many(|_| self.request("GET /api/v1/rooms", &forged, ""))).await;
            }
            Self::RoomsWithoutToken => {
                let request = |n: usize| {
                    let visit = json!({
                        "user_id": format!("v{n}"), "org_id": "films", "portfolio_name": "p",
                        "product_name": format!("{}", rand::random::<u16>()),
                    });
                    self.request("POST /api/v2/room-control/", "", &visit.to_string())
                };
                exchange(api, &many(request)).await;
            }
            Self::Searches => {
                let request = |_| self.request("GET /api/v1/messages/search?q=xxxx", &bearer, "");
                exchange(api, &many(request)).await;
            }
            Self::Garbage => {
                let garbage: [u8; 4096] = rand::random();
                self.frames(target, &[garbage.to_vec()]).await;
            }
            Self::Pings => {
                let pings = frame(0x89, b"").repeat((64 << 10) / 6);
                self.frames(target, &[pings.clone(), pings]).await;
            }
            Self::Signals => {
                let signal = |bytes: usize| {
                    text(&json!({ "action": "signal", "user": target.victim, "data": "x".repeat(bytes) }))
                };
                let join = text(&json!({ "action": "join_room", "room_pk": target.rooms[0] }));
                let (large, legal) = (signal(200 << 10), signal((16 << 10) - 2));
                self.frames(target, &[join, large.repeat(8), legal.repeat(8)]).await;
            }
            Self::OldPositions => {
                let (room, first) = target.old;
                let old = |n| {
                    let channel = format!("room-{room}");
                    text(&json!({ "action": "subscribe", "channel": channel, "since": first + n }))
                };
                self.frames(target, &[(0..8).flat_map(old).collect()]).await;
            }
            Self::UnreadPushes => {
                let mut follow = self.handshake(&bearer).into_bytes();
                for room in &target.rooms {
                    let channel = format!("room-{room}");
                    follow.extend(text(&json!({ "action": "subscribe", "channel": channel })));
                    let history = text(&json!({ "action": "history", "room_pk": target.old.0 }));
                    follow.extend(history.repeat(4));
                }
                leave_unread(fanout, &follow).await;
            }
        }
    }

    /// A request with `connection: close`, which `many` removes from all but the last.
    fn request(self, line: &str, more: &str, body: &str) -> String {
        format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\n{}{more}content-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.address(),
            body.len()
        )
    }

    fn handshake(self, more: &str) -> String {
        format!(
            "GET /ws/ HTTP/1.1\r\nhost: localhost\r\n{}{more}upgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-key: AQIDBAUGBwgJCgsMDQ4PEC==\r\nsec-websocket-version: 13\r\n\r\n",
            self.address()
        )
    }

    /// Opens a socket, sends all frames, and closes it.
    async fn frames(self, target: &Target, frames: &[Vec<u8>]) {
        let handshake = self.handshake(&format!("authorization: Bearer {}\r\n", target.token));
        let mut raw = Raw::open(&target.fanout).await;
        raw.send(handshake.as_bytes()).await.expect("the server reads");
        let answer = raw.answer().await;
        if answer.status != 101 {
            return assert_eq!(answer.status, 429, "{}", answer.head);
        }
        let close = frame(0x88, &1000_u16.to_be_bytes());
        // The server may be the first to end it.
        let _ = raw.send(&[frames.concat(), close].concat()).await;
        raw.closed().await;
    }
}

/// Concatenates pipelined requests; all but the last keep the connection open.
fn many(request: impl Fn(usize) -> String) -> Vec<u8> {
    let open = |n| request(n).replace("connection: close\r\n", "");
    (1..PIPELINED).map(open).chain([request(0)]).collect::<String>().into_bytes()
}

/// An authorization header with a forged signature.
fn forged(bearer: &str) -> String {
    let (rest, _) = bearer.rsplit_once('.').expect("a token has three parts");
    format!("{rest}.{}\r\n", "A".repeat(43))
}

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(short @ ..126) => frame.push(0x80 | u8::try_from(short).expect("it is short")),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend(u64::try_from(payload.len()).expect("a length").to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

fn text(action: &Value) -> Vec<u8> {
    frame(0x81, action.to_string().as_bytes())
}

/// Sends bytes and reads until the server ends the connection; fails on an answer 5xx.
async fn exchange(address: &str, bytes: &[u8]) {
    let mut raw = Raw::open(address).await;
    // The server may be the first to end it.
    let _ = raw.send(bytes).await;
    let came = raw.closed().await;
    let came = String::from_utf8_lossy(&came);
    if let Some(at) = came.find("HTTP/1.1 5") {
        panic!("{}", came[at..].chars().take(600).collect::<String>());
    }
}

/// Opens a connection that is never read and stays open.
async fn keep(target: &Target, address: &str, bytes: &[u8]) {
    let mut raw = Raw::open(address).await;
    let _ = raw.send(bytes).await;
    target.kept.lock().expect("nobody panics").push(raw);
    sleep(PACE).await;
}

/// Sends bytes and reads nothing for longer than any attack lasts. The server gives such a connection more time than a
/// silent one.
async fn leave_unread(address: &str, bytes: &[u8]) {
    let mut raw = Raw::open(address).await;
    let _ = raw.send(bytes).await;
    sleep(TIMEOUT).await;
}

/// Runs these attacks concurrently for `time`.
pub(super) async fn run(attacks: &[Attack], target: &Arc<Target>, time: Duration) {
    let end = Instant::now() + time;
    let mut attackers = JoinSet::new();
    for attack in attacks.iter().copied() {
        for _ in 0..ATTACKERS {
            let target = target.clone();
            attackers.spawn(async move {
                // Whose frames are too many waits for their answers longer than that.
                while timeout_at(end, attack.once(&target)).await.is_ok() {}
            });
        }
    }
    attackers.join_all().await;
}
