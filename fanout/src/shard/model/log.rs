//! Models the log of a shard, and the events that a client needs of it.

use async_nats::{HeaderMap, Message, header as nats};
use bytes::Bytes;
use log::{StoredEvent, StreamState};
use protocol::{
    id::{RoomId, Shard, ShardCount},
    subject::Channel,
};
use time::OffsetDateTime;

use crate::{
    encode::native,
    shard::replay::{ReplayOutcome, ReplayRequest},
};

/// Number of rooms. Channels with higher numbers are those of people.
pub(super) const ROOMS: usize = 5;

/// A channel by its number.
pub(super) fn channel(n: usize) -> Channel {
    match n.checked_sub(ROOMS) {
        None => Channel::Room(RoomId(n as u64 + 1)),
        Some(user) => Channel::User(person(user)),
    }
}

/// A person by their number.
pub(super) fn person(n: usize) -> protocol::id::UserId {
    format!("u{n}").parse().expect("an id")
}

/// An event of the log.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) seq: u64,
    pub(super) channel: Channel,
    pub(super) event: &'static str,
    pub(super) payload: String,
    /// The last event of the same subject.
    before: u64,
}

impl Logged {
    /// Whether a client that follows its channel must have it, by a push or by a resume.
    pub(super) fn is_needed(&self) -> bool {
        native::is_replayed(self.event)
    }

    /// As the broker republishes it.
    pub(super) fn message(&self, shards: ShardCount) -> Message {
        let mut headers = HeaderMap::new();
        headers.insert(nats::NATS_SEQUENCE, self.seq.to_string());
        headers.insert(nats::NATS_LAST_SEQUENCE, self.before.to_string());
        Message {
            subject: self.channel.unstored_subject(shards, self.event).into(),
            reply: None,
            payload: Bytes::from(self.payload.clone()),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        }
    }

    /// As the log holds it.
    pub(super) fn stored(&self, shards: ShardCount) -> StoredEvent {
        StoredEvent {
            shard: self.channel.shard(shards),
            seq: self.seq,
            subject: self.channel.unstored_subject(shards, self.event),
            headers: HeaderMap::new(),
            payload: Bytes::from(self.payload.clone()),
            time: OffsetDateTime::UNIX_EPOCH,
        }
    }
}

/// A log. It remembers trimmed events: Postgres has them.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) shard: Shard,
    pub(super) all: Vec<Logged>,
    pub(super) first: u64,
    pub(super) epoch: u64,
    /// The latest event that was ever the first: a log that is cut begins earlier again.
    trimmed: u64,
}

impl Log {
    pub(super) const fn new(shard: Shard) -> Self {
        Self { shard, all: Vec::new(), first: 1, epoch: 1, trimmed: 1 }
    }

    /// Drops the events before `first`.
    pub(super) fn trim(&mut self, first: u64) {
        self.first = self.first.max(first);
        self.trimmed = self.trimmed.max(self.first);
    }

    /// Whether a resume from this position may have failed, now or earlier.
    pub(super) fn may_lack(&self, since: u64, epoch: u64) -> bool {
        epoch != self.epoch || since > self.last() || since + 1 < self.trimmed
    }

    pub(super) fn last(&self) -> u64 {
        self.all.len() as u64
    }

    pub(super) fn state(&self) -> StreamState {
        let (first, last, epoch) = (self.first, self.last(), self.epoch);
        StreamState { first, last, epoch, messages: 0, bytes: 0, max_bytes: 0, replicas: 1 }
    }

    /// Events of a channel, all there ever were in this log.
    pub(super) fn of<'a>(&'a self, channel: &'a Channel) -> impl Iterator<Item = &'a Logged> {
        self.all.iter().filter(move |logged| logged.channel == *channel)
    }

    /// Appends an event to a channel, of one of its kinds, about a person.
    pub(super) fn append(&mut self, n: usize, kind: usize, user_number: usize) -> Logged {
        let channel = channel(n);
        let user = person(user_number);
        let about = format!(r#"{{"user":"{user}"}}"#);
        let (event, payload) = match (&channel, kind) {
            (Channel::User(_), 0..=3) => ("invitation", r#"{"room":1}"#.to_owned()),
            (Channel::User(_), _) => ("profile", r#"{"name":"n"}"#.to_owned()),
            (_, 0..=2) => ("chat-message", r#"{"message":"hi"}"#.to_owned()),
            (_, 3 | 4) => ("message-edit", r#"{"message":"ho"}"#.to_owned()),
            (_, 5) => ("message-read", about),
            (_, 6) => ("member-remove", about),
            _ => ("room-update", format!(r#"{{"closed":{}}}"#, user_number == 0)),
        };
        let before = self.of(&channel).filter(|logged| logged.event == event).last();
        let before = before.map_or(0, |logged| logged.seq);
        let logged = Logged { seq: self.last() + 1, channel, event, payload, before };
        self.all.push(logged.clone());
        logged
    }

    /// The event that has ended a person's right to a channel, which was granted as of an earlier one.
    pub(super) fn end(&self, channel: &Channel, user: &str, as_of: u64) -> Option<u64> {
        let ends = |logged: &&Logged| {
            let removed = logged.event == "member-remove" && logged.payload.contains(&format!("\"{user}\""));
            logged.seq > as_of && (removed || logged.payload.contains("\"closed\":true"))
        };
        self.of(channel).find(ends).map(|logged| logged.seq)
    }

    /// Whether a person's right to a channel, granted as of an event, has ended since.
    pub(super) fn has_ended(&self, channel: &Channel, user: &str, as_of: u64) -> bool {
        self.end(channel, user, as_of).is_some()
    }

    /// The outcome of a replay.
    pub(super) fn replay(&self, channel: &Channel, request: ReplayRequest) -> ReplayOutcome {
        if self.epoch != request.epoch {
            return ReplayOutcome::OtherLog;
        }
        if self.first > request.since + 1 {
            return ReplayOutcome::LogBeginsAt(self.first);
        }
        let is_in_range = |logged: &&Logged| logged.seq > request.since && logged.seq <= request.upto;
        let needed = self.of(channel).filter(is_in_range).filter(|logged| logged.is_needed());
        let frame = |logged: &Logged| {
            let payload = logged.payload.as_bytes();
            Some((logged.seq, native::push_frame(channel, logged.event, logged.seq, payload)?))
        };
        ReplayOutcome::Frames { base: request.since, frames: needed.filter_map(frame).collect() }
    }
}
