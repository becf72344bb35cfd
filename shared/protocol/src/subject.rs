//! Spells every subject and stream name of Roomcast; no other file does.
//!
//! api appends to `chat.<shard>.<kind>.<id>.<event>[.<key>]`; the broker republishes each stored event as
//! `live.<shard>.<kind>.<id>.<event>[.<key>]`.
//!
//! What must hold: no id yields a token with `.`, `*`, `>` or white space, so that no subscription to one channel
//! receives events of another.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    str::FromStr,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    event::EventName,
    id::{InvalidId, RoomId, Shard, ShardCount, TeamId, UserId},
};

/// Bytes that most subjects fit into.
const SUBJECT_CAPACITY: usize = 64;

/// What a client can follow, and what every event belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// `room-42`: everything that happens in a room, in one order.
    Room(RoomId),
    /// `user-7`: what concerns one person.
    User(UserId),
    /// `team-3`: what concerns a team.
    Team(TeamId),
    /// `system`: new rooms and teams.
    System,
}

impl Channel {
    /// The shard whose stream holds this channel.
    #[must_use]
    pub fn shard(&self, shards: ShardCount) -> Shard {
        match self {
            Self::Room(room) => shards.shard_of_number(room.0),
            Self::User(user) => shards.shard_of_text(user.as_str()),
            Self::Team(team) => shards.shard_of_text(&team.to_string()),
            Self::System => Shard::SYSTEM,
        }
    }

    /// `<prefix>.<shard>.<kind>.<id>.<end>`: a subject of this channel, or a filter for several.
    fn subject(&self, prefix: &str, shards: ShardCount, end: &str) -> String {
        let shard = self.shard(shards);
        let mut subject = String::with_capacity(SUBJECT_CAPACITY);
        // Writing to a string can't fail.
        let _ = match self {
            Self::Room(room) => write!(subject, "{prefix}.{shard}.room.{room}.{end}"),
            Self::User(user) => {
                write!(subject, "{prefix}.{shard}.user.{}.{end}", SubjectToken(user.as_str()))
            }
            Self::Team(team) => write!(subject, "{prefix}.{shard}.team.{team}.{end}"),
            Self::System => write!(subject, "{prefix}.{shard}.system.-.{end}"),
        };
        subject
    }

    fn from_tokens(kind: &str, id: &str) -> Result<Self, InvalidId> {
        match kind {
            "room" => id.parse().map(Self::Room),
            "user" => decode_token(id).ok_or(InvalidId)?.parse().map(Self::User),
            "team" => id.parse().map(Self::Team),
            "system" if id == "-" => Ok(Self::System),
            _ => Err(InvalidId),
        }
    }

    /// The subject of an event of this channel in the log. With `key`, each thing that must be unique has a subject of
    /// its own.
    #[must_use]
    pub fn log_subject(&self, shards: ShardCount, event: EventName, key: Option<&str>) -> String {
        let mut subject = self.subject("chat", shards, event.as_str());
        if let Some(key) = key {
            // Writing to a string can't fail.
            let _ = write!(subject, ".{}", SubjectToken(key));
        }
        subject
    }

    /// The filter for all events of this channel in the log.
    #[must_use]
    pub fn log_filter(&self, shards: ShardCount) -> String {
        self.subject("chat", shards, ">")
    }

    /// The subject of an event of this channel that is never stored: see [`crate::event::live`].
    #[must_use]
    pub fn unstored_subject(&self, shards: ShardCount, name: &str) -> String {
        self.subject("live", shards, name)
    }

    /// The subject filter by which a node receives this channel live.
    #[must_use]
    pub fn live_filter(&self, shards: ShardCount) -> String {
        self.subject("live", shards, ">")
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Room(room) => write!(f, "room-{room}"),
            Self::User(user) => write!(f, "user-{user}"),
            Self::Team(team) => write!(f, "team-{team}"),
            Self::System => f.write_str("system"),
        }
    }
}

impl FromStr for Channel {
    type Err = InvalidId;

    fn from_str(name: &str) -> Result<Self, InvalidId> {
        if name == "system" {
            return Ok(Self::System);
        }
        match name.split_once('-').ok_or(InvalidId)? {
            ("room", id) => id.parse().map(Self::Room),
            ("user", id) => id.parse().map(Self::User),
            ("team", id) => id.parse().map(Self::Team),
            _ => Err(InvalidId),
        }
    }
}

impl JsonSchema for Channel {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Channel".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": format!("^(system|(room|team)-[1-9][0-9]*|user-[A-Za-z0-9{}]{{1,64}})$", UserId::MARKS) })
    }
}

impl Serialize for Channel {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Channel {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        name.parse().map_err(|_| serde::de::Error::custom("not a channel"))
    }
}

/// The parts of a subject of the log, or of its live copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedSubject<'a> {
    /// The shard whose stream it is in.
    pub shard: Shard,
    /// The channel it belongs to.
    pub channel: Channel,
    /// The event's name, which this version may not know.
    pub event: &'a str,
    /// The key of the thing that must be unique, if there is one.
    pub key: Option<String>,
}

/// Parses a `chat.…` or `live.…` subject.
///
/// # Errors
/// When the subject has another form.
pub fn parse(subject: &str) -> Result<ParsedSubject<'_>, InvalidId> {
    let mut tokens = subject.split('.');
    let mut next = || tokens.next().ok_or(InvalidId);
    if !matches!(next()?, "chat" | "live") {
        return Err(InvalidId);
    }
    let shard = next()?.parse()?;
    let channel = Channel::from_tokens(next()?, next()?)?;
    let event = next()?;
    let key = tokens.next().map(|token| decode_token(token).ok_or(InvalidId)).transpose()?;
    Ok(ParsedSubject { shard, channel, event, key })
}

/// The name of a shard's stream.
#[must_use]
pub fn stream(shard: Shard) -> String {
    format!("CHAT_{shard}")
}

/// The subjects that a shard's stream captures.
#[must_use]
pub fn stream_capture(shard: Shard) -> String {
    format!("chat.{shard}.>")
}

/// Source and destination of a shard's republish. They can't change on nats-server 2.9.
#[must_use]
pub fn stream_republish(shard: Shard) -> (String, String) {
    (format!("chat.{shard}.*.*.>"), format!("live.{shard}.$1.$2.>"))
}

/// The subject on which the persister publishes up to where a shard is in Postgres.
#[must_use]
pub fn applied(shard: Shard) -> String {
    format!("applied.{shard}")
}

/// The filter for all `applied` notices.
pub const APPLIED_ALL: &str = "applied.*";

/// The subject on which api publishes that a live copy may have been lost, because its append was retried or came back
/// as a duplicate.
#[must_use]
pub fn sync(shard: Shard) -> String {
    format!("sync.{shard}")
}

/// The filter for all `sync` hints.
pub const SYNC_ALL: &str = "sync.*";

/// The subject on which api and fanout publish the last event that they have seen in a shard's log, when the log may
/// have lost its end.
#[must_use]
pub fn log_end(shard: Shard) -> String {
    format!("seen.{shard}")
}

/// The filter for all `seen` notices.
pub const LOG_END_ALL: &str = "seen.*";

/// The shard named by an `applied.…`, `sync.…` or `seen.…` subject.
///
/// # Errors
/// When the subject has another form.
pub fn notice_shard(subject: &str) -> Result<Shard, InvalidId> {
    subject.split_once('.').ok_or(InvalidId)?.1.parse()
}

/// The forms of subjects, as the generated documents write them.
pub mod form {
    /// Stored events. A thing that must be unique has its key as one more token.
    pub const CHAT: &str = "chat.{shard}.{kind}.{id}.{event}";
    /// Pushed events: stored ones, and those that are never stored.
    pub const LIVE: &str = "live.{shard}.{kind}.{id}.{event}";
    /// See [`super::applied`].
    pub const APPLIED: &str = "applied.{shard}";
    /// See [`super::sync`].
    pub const SYNC: &str = "sync.{shard}";
    /// See [`super::log_end`].
    pub const SEEN: &str = "seen.{shard}";
    /// See [`super::alive`].
    pub const ALIVE: &str = "node.alive.{process}";
    /// See [`super::dead`].
    pub const DEAD: &str = "node.dead.{process}";
    /// See [`super::echo`].
    pub const ECHO: &str = "node.echo.{process}";
}

/// The subjects of fanout's requests to api.
pub mod rpc {
    /// One action of a socket, decided by api.
    pub const ACTION: &str = "rpc.action";
    /// A person connects: their token's profile is stored.
    pub const HELLO: &str = "rpc.hello";
    /// People have entered rooms or come online on a node, or are no longer there.
    pub const PRESENCE: &str = "rpc.presence";
    /// Asks who is in a room.
    pub const PARTICIPANTS: &str = "rpc.participants";
    /// Asks whether people may still be in a room, or follow a team.
    pub const CONFIRM: &str = "rpc.confirm";
    /// Asks whether people may still be in several rooms. An older api node does not listen to it.
    pub const CONFIRM_CHANNELS: &str = "rpc.confirm-channels";
    /// Asks whether a person may send signals to another.
    pub const SIGNAL: &str = "rpc.signal";
}

/// The subject of the heartbeats of a fan-out process.
#[must_use]
pub fn alive(incarnation: u64) -> String {
    format!("node.alive.{incarnation:016x}")
}

/// The subject on which api declares a fan-out process dead: its people are removed from their rooms.
#[must_use]
pub fn dead(incarnation: u64) -> String {
    format!("node.dead.{incarnation:016x}")
}

/// The subject on which an api node publishes to itself: what comes back shows that it receives messages.
#[must_use]
pub fn echo(process: u64) -> String {
    format!("node.echo.{process:016x}")
}

/// The filter for `alive`, `dead` and `echo` messages, which a subscription receives in one order.
pub const NODE_SIGNALS_ALL: &str = "node.*.*";

/// A message about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeSignal {
    /// This incarnation of a fan-out process is alive.
    Alive(u64),
    /// This incarnation of a fan-out process is dead.
    Dead(u64),
    /// This api node receives its own messages.
    Echo(u64),
}

/// Parses the subject of such a message.
///
/// # Errors
/// When the subject has another form.
pub fn parse_node_signal(subject: &str) -> Result<NodeSignal, InvalidId> {
    let (kind, token) =
        subject.strip_prefix("node.").and_then(|rest| rest.split_once('.')).ok_or(InvalidId)?;
    let process = u64::from_str_radix(token, 16).map_err(|_| InvalidId)?;
    match kind {
        "alive" => Ok(NodeSignal::Alive(process)),
        "dead" => Ok(NodeSignal::Dead(process)),
        "echo" => Ok(NodeSignal::Echo(process)),
        _ => Err(InvalidId),
    }
}

/// The subject of elections of a stream's leader: live copies that the old leader had not sent are lost.
#[must_use]
pub fn elections(shard: Shard) -> String {
    format!("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.{}", stream(shard))
}

/// The filter for one event of all people of a shard, live.
#[must_use]
pub fn live_filter_of_people(shard: Shard, event: &str) -> String {
    format!("live.{shard}.user.*.{event}")
}

/// The filter for all events of a shard's rooms, live.
#[must_use]
pub fn live_filter_of_rooms(shard: Shard) -> String {
    format!("live.{shard}.room.>")
}

/// The filter for one event of all rooms or all teams of every shard, live.
#[must_use]
pub fn live_filter_of_all_shards(kind: &str, event: EventName) -> String {
    format!("live.*.{kind}.*.{event}")
}

/// Encodes a text as one token: every byte outside `A–Za–z0–9_-` becomes `=XX`.
struct SubjectToken<'a>(&'a str);

impl fmt::Display for SubjectToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let mut rest = self.0;
        while let Some(end) = rest.bytes().position(|byte| !is_plain(byte)) {
            f.write_str(&rest[..end])?;
            // A character of several bytes is escaped whole, so that `rest` begins at a character.
            let escaped = rest[end..].chars().next().map_or(0, char::len_utf8);
            rest[end..end + escaped].bytes().try_for_each(|byte| write!(f, "={byte:02X}"))?;
            rest = &rest[end + escaped..];
        }
        f.write_str(rest)
    }
}

/// The inverse of [`SubjectToken`].
fn decode_token(token: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'=' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
