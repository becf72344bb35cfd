//! Reads the state of each room from its events in the log.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use log::{LogReader, StoredEvent};
use protocol::{
    event::{EventName, header},
    id::Shard,
    subject::{self, Channel},
};
use serde_json::Value;
use service::nats::BrokerUser;
use tests::cluster::Cluster;

/// State of a message after all its events.
#[derive(Debug)]
pub(super) struct Message {
    /// The text of the original message.
    pub(super) original_text: String,
    /// Text after the last edit.
    pub(super) text: String,
    pub(super) is_deleted: bool,
}

/// State of a room after all its events.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) messages: BTreeMap<u64, Message>,
    pub(super) marks: BTreeMap<String, u64>,
    /// Ids of all messages, edits and deletions.
    pub(super) events: BTreeSet<u64>,
    /// Number of events with each text: new messages (`None`) or edits of that message.
    pub(super) text_counts: HashMap<(Option<u64>, String), u32>,
    /// Number of deletions of each message.
    pub(super) deletion_counts: HashMap<u64, u32>,
    /// Number of read marks of each user for each message.
    pub(super) mark_counts: HashMap<(String, u64), u32>,
    /// Newest presence event of each user and process: its counter, and whether the user is present.
    presence: HashMap<(String, u64), (u64, bool)>,
}

impl Room {
    fn apply(&mut self, name: EventName, stored: &StoredEvent) {
        let data: Value = serde_json::from_slice(&stored.payload).expect("valid JSON");
        let user = || data["user"].as_str().expect("the event has a user").to_owned();
        let text = || data["message"].as_str().expect("the message has a text").to_owned();
        let message = || data["message_id"].as_u64().expect("the event has a message id");
        match name {
            EventName::ChatMessage => {
                self.events.insert(stored.seq);
                *self.text_counts.entry((None, text())).or_default() += 1;
                self.messages
                    .insert(stored.seq, Message { original_text: text(), text: text(), is_deleted: false });
            }
            EventName::MessageEdit => {
                self.events.insert(stored.seq);
                *self.text_counts.entry((Some(message()), text())).or_default() += 1;
                let edited = self.messages.get_mut(&message()).expect("the message is in the log");
                if !edited.is_deleted {
                    edited.text = text();
                }
            }
            EventName::MessageDelete => {
                self.events.insert(stored.seq);
                for id in data["messages_ids"].as_array().expect("the answer is a list") {
                    let id = id.as_u64().expect("the answer has an id");
                    *self.deletion_counts.entry(id).or_default() += 1;
                    self.messages.get_mut(&id).expect("the message is in the log").is_deleted = true;
                }
            }
            EventName::MessageRead => {
                *self.mark_counts.entry((user(), message())).or_default() += 1;
                let mark = self.marks.entry(user()).or_default();
                *mark = (*mark).max(message());
            }
            EventName::ParticipantJoin | EventName::ParticipantLeave => {
                let number = |name| {
                    let value = stored.headers.get_last(name).expect("the event has the header");
                    value.as_str().parse::<u64>().expect("a valid number")
                };
                let entry = (number(header::COUNTER), name == EventName::ParticipantJoin);
                let last = self.presence.entry((user(), number(header::INCARNATION))).or_default();
                *last = (*last).max(entry);
            }
            _ => {}
        }
    }

    /// Users who are in the room.
    pub(super) fn participants(&self) -> BTreeSet<String> {
        let present = self.presence.iter().filter(|(_, (_, present))| *present);
        present.map(|((user, _), _)| user.clone()).collect()
    }
}

/// Reads every shard's log from its first event on.
pub(super) async fn read(cluster: &Cluster) -> BTreeMap<u64, Room> {
    let jetstream = cluster.jetstream(BrokerUser::Persister).await;
    let shards = log::discover(&jetstream).await.expect("the log exists").shards;
    let mut rooms: BTreeMap<u64, Room> = BTreeMap::new();
    for shard in shards.all().filter(|shard| *shard != Shard::SYSTEM) {
        let last = log::state(&jetstream, shard).await.expect("the stream exists").last;
        let mut reader = LogReader::open(jetstream.clone(), shard, None, 1);
        while reader.position() <= last {
            let stored = reader.next().await.expect("the log is not trimmed").stored;
            let parsed = subject::parse(&stored.subject).expect("a valid subject");
            if let (Channel::Room(room), Some(name)) = (parsed.channel, EventName::parse(parsed.event)) {
                rooms.entry(room.0).or_default().apply(name, &stored);
            }
        }
    }
    rooms
}
