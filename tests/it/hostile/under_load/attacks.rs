//! Defines the attacks, which clients repeat until the time of a phase is over.

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
/// Pause between connections that are left open, so that there are at most some hundreds of them.
const OPEN_INTERVAL: Duration = Duration::from_millis(20);

/// The nodes under attack, and the ids and tokens that an attacker uses.
pub(super) struct Target {
    pub api: String,
    pub fanout: String,
    /// Rooms of the steady load.
    pub rooms: Vec<u64>,
    /// A room with more events than a ring holds, and its first message.
    pub old: (u64, u64),
    /// Id of a user in the first room.
    pub victim: String,
    /// A valid token.
    pub token: String,
    /// Connections that the attackers never close.
    pub open_connections: Mutex<Vec<Raw>>,
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

    /// A header with the client address of this attack, so that each attack has its own limits.
    fn address(self) -> String {
        format!("x-forwarded-for: 203.0.113.{}\r\n", self as u8)
    }

    async fn run_once(self, target: &Target) {
        let (api, fanout) = (&target.api, &target.fanout);
        let bearer = format!("authorization: Bearer {}\r\n", target.token);
        match self {
            Self::MadeUpWords => {
                let request = |_| {
                    let word = format!("X{:x}", rand::random::<u64>());
                    self.request(&format!("{word} /{word}?{word}"), &format!("{word}: {word}\r\n"), "")
                };
                exchange(api, &pipelined(request)).await;
                exchange(fanout, &pipelined(request)).await;
            }
            Self::SilentConnections => {
                for bytes in ["", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI", "GET / HTTP/1.1\r\nhost: loc"] {
                    for address in [api, fanout] {
                        leave_open(target, address, bytes.as_bytes()).await;
                    }
                }
            }
            Self::UnreadAnswers => {
                let request = |_| self.request("GET /openapi.json", "", "");
                leave_unread(api, &pipelined(request)).await;
            }
            Self::RefusedBodies => {
                let body = "x".repeat(3 << 20);
                for headers in ["", &bearer] {
                    exchange(api, self.request("POST /api/v1/rooms", headers, &body).as_bytes()).await;
                }
                exchange(fanout, self.request("POST /ws/", &bearer, &body).as_bytes()).await;
            }
            Self::Handshakes => {
                for headers in ["", "authorization: Bearer x\r\n", &forged(&bearer)] {
                    let answer = Raw::ask(fanout, &self.handshake(headers)).await;
                    assert!([401, 429].contains(&answer.status), "{}", answer.head);
                }
            }
            Self::WrongTokens => {
                let forged = forged(&bearer);
                exchange(api, &pipelined(|_| self.request("GET /api/v1/rooms", &forged, ""))).await;
            }
            Self::RoomsWithoutToken => {
                let request = |n: usize| {
                    let visit = json!({
                        "user_id": format!("v{n}"), "org_id": "films", "portfolio_name": "p",
                        "product_name": format!("{}", rand::random::<u16>()),
                    });
                    self.request("POST /api/v2/room-control/", "", &visit.to_string())
                };
                exchange(api, &pipelined(request)).await;
            }
            Self::Searches => {
                let request = |_| self.request("GET /api/v1/messages/search?q=xxxx", &bearer, "");
                exchange(api, &pipelined(request)).await;
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
    fn request(self, line: &str, headers: &str, body: &str) -> String {
        format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\n{}{headers}content-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.address(),
            body.len()
        )
    }

    fn handshake(self, headers: &str) -> String {
        format!(
            "GET /ws/ HTTP/1.1\r\nhost: localhost\r\n{}{headers}upgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-key: AQIDBAUGBwgJCgsMDQ4PEC==\r\nsec-websocket-version: 13\r\n\r\n",
            self.address()
        )
    }

    /// Opens a socket, sends all frames, and closes it.
    async fn frames(self, target: &Target, frames: &[Vec<u8>]) {
        let handshake = self.handshake(&format!("authorization: Bearer {}\r\n", target.token));
        let mut raw = Raw::open(&target.fanout).await;
        raw.send(handshake.as_bytes()).await.expect("the server accepts bytes");
        let answer = raw.answer().await;
        if answer.status != 101 {
            return assert_eq!(answer.status, 429, "{}", answer.head);
        }
        let close = frame(0x88, &1000_u16.to_be_bytes());
        // The server may close the connection first.
        let _ = raw.send(&[frames.concat(), close].concat()).await;
        raw.closed().await;
    }
}

/// Concatenates pipelined requests; all but the last keep the connection open.
fn pipelined(request: impl Fn(usize) -> String) -> Vec<u8> {
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
        Ok(short @ ..126) => frame.push(0x80 | u8::try_from(short).expect("the payload is short")),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend(u64::try_from(payload.len()).expect("a valid length").to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

fn text(action: &Value) -> Vec<u8> {
    frame(0x81, action.to_string().as_bytes())
}

/// Sends bytes and reads until the server closes the connection; fails on a 5xx answer.
async fn exchange(address: &str, bytes: &[u8]) {
    let mut raw = Raw::open(address).await;
    // The server may close the connection first.
    let _ = raw.send(bytes).await;
    let received = raw.closed().await;
    let received = String::from_utf8_lossy(&received);
    if let Some(index) = received.find("HTTP/1.1 5") {
        panic!("{}", received[index..].chars().take(600).collect::<String>());
    }
}

/// Opens a connection that is never read and stays open.
async fn leave_open(target: &Target, address: &str, bytes: &[u8]) {
    let mut raw = Raw::open(address).await;
    let _ = raw.send(bytes).await;
    target.open_connections.lock().expect("no attacker panics").push(raw);
    sleep(OPEN_INTERVAL).await;
}

/// Sends bytes and reads nothing for longer than any attack lasts. The server keeps such a connection longer than a
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
                // An attack may still wait for its answers when the time is over.
                while timeout_at(end, attack.run_once(&target)).await.is_ok() {}
            });
        }
    }
    attackers.join_all().await;
}
