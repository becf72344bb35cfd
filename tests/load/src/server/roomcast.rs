//! Talks to Roomcast: creates rooms over REST, subscribes sockets, and sends messages by one of three routes.

use std::{cell::RefCell, collections::HashSet, io::Write as _, net::SocketAddr, thread};

use anyhow::Context as _;
use clap::ValueEnum;
use protocol::{
    clock::Timestamp,
    event::{ChatMessage, Event, EventName, header},
    id::{RoomId, ShardCount, UserId},
    subject::Channel,
};
use serde_json::{Value, json};

use super::{
    FrameMeaning, JoinAnswer, NewPost, ParticipantChange, PostRoute, ResumePosition, SocketIndex,
    TestedServer, parse_json,
};
use crate::{
    config::{LoadArgs, Scenario},
    context::PostOutcome,
    http, post_connections,
};

/// How messages are sent to Roomcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PublishMethod {
    /// By `POST`: measures the whole system; each message is acknowledged.
    Http,
    /// By `create_message` on a room's first sockets: measures the whole system.
    Socket,
    /// To fanout only, on the subjects of the broker's republish. Nothing is stored. Use a throw-away deployment
    /// whose broker user may publish there.
    Live,
}

/// Number of connections that create rooms.
const ROOM_CREATING_CONNECTIONS: usize = 50;
/// The `request_id` of requests for rooms other than the socket's own: their answers are ignored.
const OTHER_ROOM_REQUEST_ID: u64 = 0;
/// Lifetime of tokens in seconds: longer than any run.
const TOKEN_LIFETIME_SECS: i64 = 86_400;

pub(super) struct RoomcastServer {
    api: Vec<SocketAddr>,
    publish: PublishMethod,
    broker: SocketAddr,
    shards: ShardCount,
    secret: String,
    rooms: Vec<RoomId>,
    /// Number of extra rooms of each socket, which come after the shared rooms in `rooms`.
    other_rooms_per_socket: usize,
    /// Number of sockets.
    sockets: usize,
    /// Whether sockets join their rooms as participants, which may write; otherwise they only subscribe.
    is_joining: bool,
    /// The `Authorization` header of each writer, made once.
    writer_tokens: RefCell<Vec<String>>,
}

impl RoomcastServer {
    pub(super) fn new(config: &LoadArgs) -> anyhow::Result<Self> {
        Ok(Self {
            api: config.api_addresses(),
            publish: config.publish,
            broker: post_connections::parse_broker_url(&config.nats_url)?.address,
            shards: ShardCount::new(config.shards).context("ROOMCAST_SHARDS")?,
            secret: service::token::given_or_stored_secret(config.jwt_secret.as_deref(), &config.data)?,
            rooms: Vec::new(),
            other_rooms_per_socket: if config.scenario == Scenario::Idle { config.others } else { 0 },
            sockets: config.rooms() * config.sockets_per_room(),
            is_joining: config.publish == PublishMethod::Socket || config.scenario.has_churn(),
            writer_tokens: RefCell::default(),
        })
    }

    /// An `Authorization` header for a user. Writers are admins, so that no access rule limits them.
    fn authorization(&self, user: &str, is_admin: bool) -> String {
        let expires = Timestamp::now().unix_ms() / 1000 + TOKEN_LIFETIME_SECS;
        let claims = json!({ "user_id": user, "exp": expires, "is_admin": is_admin });
        let token = service::token::sign(&self.secret, &claims).expect("claims are JSON");
        format!("Authorization: Bearer {token}\r\n")
    }

    fn write_http_post(&self, out: &mut Vec<u8>, post: NewPost<'_>, room: RoomId) {
        let mut tokens = self.writer_tokens.borrow_mut();
        while tokens.len() <= post.writer {
            let user = format!("writer-{}", tokens.len());
            tokens.push(self.authorization(&user, true));
        }
        let body = format!(r#"{{"message":"{}"}}"#, post.text);
        let path = format!("/api/v1/rooms/{room}/messages");
        http::write_request(out, "POST", &path, &tokens[post.writer], body.as_bytes());
    }

    /// Appends an `HPUB` with the headers that the broker's republish would have, and with a sequence above those of
    /// all stored events.
    fn write_live_post(&self, out: &mut Vec<u8>, post: NewPost<'_>, room: RoomId) {
        let user: UserId = format!("writer-{}", post.writer).parse().expect("a valid user id");
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
        let subject = Channel::Room(room).unstored_subject(self.shards, EventName::ChatMessage.as_str());
        let headers = format!(
            "NATS/1.0\r\nNats-Sequence: {}\r\nNats-Last-Sequence: 0\r\n{}: {}\r\n\r\n",
            FIRST_LIVE_SEQ + post.number,
            header::APPENDED,
            now.unix_us()
        );
        // Writing to a Vec does not fail.
        let _ =
            write!(out, "HPUB {subject} {} {}\r\n{headers}", headers.len(), headers.len() + payload.len());
        out.extend(payload);
        out.extend(b"\r\n");
    }
}

/// Creates rooms over a new connection.
fn create_rooms(
    api: SocketAddr,
    authorization: &str,
    rooms: &[(String, Value)],
) -> anyhow::Result<Vec<RoomId>> {
    let mut client = http::BlockingHttpClient::connect(api, authorization.to_owned())?;
    let created = client.send_all("POST", rooms)?;
    created.iter().map(|room| Ok(RoomId(room["id"].as_u64().context("a room has an id")?))).collect()
}

/// The first sequence for [`PublishMethod::Live`]: above that of any log of a test deployment.
const FIRST_LIVE_SEQ: u64 = 1 << 40;

/// Parses the answer to `subscribe` or `join_room`. A resume that the server could not serve counts as refused.
fn parse_join_answer(data: &Value) -> FrameMeaning {
    let position = if data["position"].is_object() { &data["position"] } else { data };
    if position["recovered"] == false {
        return FrameMeaning::Refused("the missed events are not in the log any more".to_owned());
    }
    let resume_position = position["id"].as_u64();
    let resume_position =
        resume_position.map(|after_id| ResumePosition { after_id, epoch: position["epoch"].to_string() });
    FrameMeaning::Joined(JoinAnswer { position: resume_position, participants: parse_participants(data) })
}

/// The sockets among the participants in an answer.
fn parse_participants(data: &Value) -> HashSet<usize> {
    let participants = data["participants"].as_array().into_iter().flatten();
    participants.filter_map(|person| person.as_str()?.strip_prefix("load-")?.parse().ok()).collect()
}

/// Parses a `participant-join` or `participant-leave` push.
fn parse_participant_change(frame: &[u8]) -> Option<ParticipantChange> {
    let event = memchr::memmem::find(frame, br#","event":"participant-"#)? + 22;
    let user = memchr::memmem::find(frame, br#""user":"load-"#)? + 13;
    Some(ParticipantChange {
        socket: parse_leading_number(&frame[user..])?,
        is_present: frame[event..].starts_with(b"join"),
    })
}

/// Parses the decimal number at the beginning of some bytes.
fn parse_leading_number<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()
}

/// Parses the event id of a push. It comes before `data`, so the first match is not a user's text.
fn parse_event_id(frame: &[u8]) -> Option<u64> {
    let start = memchr::memmem::find(frame, br#","id":"#)? + 6;
    parse_leading_number(&frame[start..])
}

impl TestedServer for RoomcastServer {
    fn create_rooms(&mut self, rooms: usize) -> anyhow::Result<()> {
        let new: Vec<_> = (0..rooms + self.sockets * self.other_rooms_per_socket)
            .map(|n| ("/api/v1/rooms".to_owned(), json!({ "name": format!("load {n}") })))
            .collect();
        // Requests on one connection are answered one after another, so several connections are faster.
        let (api, authorization) = (self.api[0], self.authorization("load", true));
        let created = thread::scope(|scope| {
            let threads: Vec<_> = new
                .chunks(new.len().div_ceil(ROOM_CREATING_CONNECTIONS).max(1))
                .map(|part| scope.spawn(|| create_rooms(api, &authorization, part)))
                .collect();
            threads
                .into_iter()
                .map(|part| part.join().expect("the thread does not panic"))
                .collect::<Result<Vec<_>, _>>()
        });
        self.rooms.extend(created?.into_iter().flatten());
        Ok(())
    }

    fn handshake_parts(&self, index: SocketIndex) -> (String, String) {
        (
            "/ws/".to_owned(),
            self.authorization(&format!("load-{}", index.socket), self.publish == PublishMethod::Socket),
        )
    }

    fn join_frames(&self, index: SocketIndex) -> Vec<String> {
        let room = self.rooms[index.room];
        if self.is_joining {
            return vec![json!({ "action": "join_room", "room_pk": room, "request_id": 1 }).to_string()];
        }
        let first = self.rooms.len() - (self.sockets - index.socket) * self.other_rooms_per_socket;
        let others = self.rooms[first..first + self.other_rooms_per_socket]
            .iter()
            .map(|room| (room, OTHER_ROOM_REQUEST_ID));
        let all = others.chain([(&room, 1)]);
        let frame = |room: &RoomId, id| json!({ "action": "subscribe", "channel": Channel::Room(*room), "request_id": id });
        all.map(|(room, id)| frame(room, id).to_string()).collect()
    }

    fn leave_frame(&self, index: SocketIndex) -> Option<String> {
        let room = self.rooms[index.room];
        Some(json!({ "action": "leave_room", "room_pk": room, "request_id": 3 }).to_string())
    }

    fn resume_frame(&self, index: SocketIndex, resume_position: &ResumePosition) -> Option<String> {
        let channel = Channel::Room(self.rooms[index.room]);
        let ResumePosition { after_id, epoch } = resume_position;
        let epoch: Value = serde_json::from_str(epoch).ok()?;
        let frame = json!({ "action": "subscribe", "channel": channel, "since": after_id, "epoch": epoch, "request_id": 1 });
        Some(frame.to_string())
    }

    fn event_id(&self, frame: &[u8]) -> Option<u64> {
        parse_event_id(frame)
    }

    fn participant_change(&self, frame: &[u8]) -> Option<ParticipantChange> {
        parse_participant_change(frame)
    }

    fn read_participant_lists(&self) -> anyhow::Result<Vec<HashSet<usize>>> {
        let mut client = http::BlockingHttpClient::connect(self.api[0], self.authorization("load", true))?;
        let requests = self.rooms.iter().map(|room| (format!("/api/v1/rooms/{room}"), Value::Null));
        let lists = client.send_all("GET", &requests.collect::<Vec<_>>())?;
        Ok(lists.iter().map(parse_participants).collect())
    }

    fn is_acknowledging(&self) -> bool {
        true
    }

    fn is_push(&self, frame: &[u8]) -> bool {
        frame.starts_with(br#"{"channel":"#)
    }

    fn interpret(&self, _: SocketIndex, frame: &[u8]) -> FrameMeaning {
        if self.is_push(frame) {
            return FrameMeaning::Nothing;
        }
        let answer = parse_json(frame);
        match (answer["response_status"].as_u64(), answer["action"].as_str()) {
            (Some(200..300), _) if answer["request_id"] == OTHER_ROOM_REQUEST_ID => FrameMeaning::Nothing,
            (Some(200..300), Some("subscribe" | "join_room")) => parse_join_answer(&answer["data"]),
            (Some(200..300), Some("leave_room")) => FrameMeaning::Left,
            (Some(status), Some("create_message")) => {
                let number = answer["request_id"].as_u64().unwrap_or(0);
                FrameMeaning::Acknowledged { number, outcome: PostOutcome::from_status(status) }
            }
            (Some(200..300), _) | (None, _) => FrameMeaning::Nothing,
            (Some(429), _) => FrameMeaning::RateLimited(answer.to_string()),
            _ => FrameMeaning::Refused(answer.to_string()),
        }
    }

    fn post_route(&self) -> PostRoute {
        match self.publish {
            PublishMethod::Http => PostRoute::Http(self.api.clone()),
            PublishMethod::Socket => PostRoute::Socket,
            PublishMethod::Live => PostRoute::Nats(self.broker),
        }
    }

    fn write_post(&self, out: &mut Vec<u8>, post: NewPost<'_>) {
        let room = self.rooms[post.room];
        match self.publish {
            PublishMethod::Http => self.write_http_post(out, post, room),
            PublishMethod::Live => self.write_live_post(out, post, room),
            PublishMethod::Socket => {
                // Writing to a Vec does not fail.
                let _ = write!(
                    out,
                    r#"{{"action":"create_message","room_pk":{room},"msg_text":"{}","request_id":{}}}"#,
                    post.text, post.number
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_of_roomcast_has_a_number() {
        let push = br#"{"channel":"room-7","event":"chat-message","id":42,"data":{"message":",\"id\":1"}}"#;
        assert_eq!(parse_event_id(push), Some(42));
        assert_eq!(parse_event_id(br#"{"channel":"room-7","event":"typing","data":{}}"#), None);
    }

    #[test]
    fn joins_and_leaves_are_recognised() {
        let push = |event, user| {
            let data = format!(r#"{{"user":"{user}","room":7}}"#);
            parse_participant_change(
                format!(r#"{{"channel":"room-7","event":"{event}","id":42,"data":{data}}}"#).as_bytes(),
            )
        };
        assert_eq!(
            push("participant-join", "load-12"),
            Some(ParticipantChange { socket: 12, is_present: true })
        );
        assert_eq!(
            push("participant-leave", "load-3"),
            Some(ParticipantChange { socket: 3, is_present: false })
        );
        assert_eq!(push("participant-join", "ann"), None);
        assert_eq!(push("member-add", "load-12"), None);
    }

    #[test]
    fn resume_position_is_read_from_the_answer_and_incomplete_ones_refused() {
        let resume_position = ResumePosition { after_id: 42, epoch: "3".to_owned() };
        let subscribed = json!({ "id": 42, "epoch": 3, "recovered": true });
        let join_answer =
            JoinAnswer { position: Some(resume_position.clone()), participants: HashSet::new() };
        assert_eq!(parse_join_answer(&subscribed), FrameMeaning::Joined(join_answer));
        let position = json!({ "id": 42, "epoch": 3, "recovered": true });
        let in_room = json!({ "id": 7, "participants": ["load-5", "ann"], "position": position });
        assert_eq!(
            parse_join_answer(&in_room),
            FrameMeaning::Joined(JoinAnswer { position: Some(resume_position), participants: [5].into() })
        );
        let incomplete = json!({ "id": 42, "epoch": 3, "recovered": false });
        assert!(matches!(parse_join_answer(&incomplete), FrameMeaning::Refused(_)));
    }
}
