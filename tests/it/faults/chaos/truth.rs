//! Reads from the log what happened in each room.

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
    /// Text that was sent.
    pub(super) first: String,
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
    pub(super) texts: HashMap<(Option<u64>, String), u32>,
    /// Number of deletions of each message.
    pub(super) deletions: HashMap<u64, u32>,
    /// Number of read marks of each person for each message.
    pub(super) marked: HashMap<(String, u64), u32>,
    /// Newest presence entry of each person and process: counter, and whether the person is present.
    words: HashMap<(String, u64), (u64, bool)>,
}

impl Room {
    fn take(&mut self, name: EventName, stored: &StoredEvent) {
        let data: Value = serde_json::from_slice(&stored.payload).expect("JSON");
        let user = || data["user"].as_str().expect("a user").to_owned();
        let text = || data["message"].as_str().expect("a text").to_owned();
        let message = || data["message_id"].as_u64().expect("a message");
        match name {
            EventName::ChatMessage => {
                self.events.insert(stored.seq);
                *self.texts.entry((None, text())).or_default() += 1;
                self.messages.insert(stored.seq, Message { first: text(), text: text(), is_deleted: false });
            }
            EventName::MessageEdit => {
                self.events.insert(stored.seq);
                *self.texts.entry((Some(message()), text())).or_default() += 1;
                let edited = self.messages.get_mut(&message()).expect("a message that is there");
                if !edited.is_deleted {
                    edited.text = text();
                }
            }
            EventName::MessageDelete => {
                self.events.insert(stored.seq);
                for id in data["messages_ids"].as_array().expect("a list") {
                    let id = id.as_u64().expect("an id");
                    *self.deletions.entry(id).or_default() += 1;
                    self.messages.get_mut(&id).expect("a message that is there").is_deleted = true;
                }
            }
            EventName::MessageRead => {
                *self.marked.entry((user(), message())).or_default() += 1;
                let mark = self.marks.entry(user()).or_default();
                *mark = (*mark).max(message());
            }
            EventName::ParticipantJoin | EventName::ParticipantLeave => {
                let number = |name| {
                    let value = stored.headers.get_last(name).expect("a header");
                    value.as_str().parse::<u64>().expect("a number")
                };
                let word = (number(header::COUNTER), name == EventName::ParticipantJoin);
                let last = self.words.entry((user(), number(header::INCARNATION))).or_default();
                *last = (*last).max(word);
            }
            _ => {}
        }
    }

    /// Users who are in the room.
    pub(super) fn people(&self) -> BTreeSet<String> {
        let present = self.words.iter().filter(|(_, (_, present))| *present);
        present.map(|((user, _), _)| user.clone()).collect()
    }
}

/// Reads every shard's log from its first event on.
pub(super) async fn read(cluster: &Cluster) -> BTreeMap<u64, Room> {
    let jetstream = cluster.jetstream(BrokerUser::Persister).await;
    let shards = log::discover(&jetstream).await.expect("a log").shards;
    let mut rooms: BTreeMap<u64, Room> = BTreeMap::new();
    for shard in shards.all().filter(|shard| *shard != Shard::SYSTEM) {
        let last = log::state(&jetstream, shard).await.expect("a stream").last;
        let mut reader = LogReader::open(jetstream.clone(), shard, None, 1);
        while reader.position() <= last {
            let stored = reader.next().await.expect("the log has everything since the beginning").stored;
            let parsed = subject::parse(&stored.subject).expect("a subject of ours");
            if let (Channel::Room(room), Some(name)) = (parsed.channel, EventName::parse(parsed.event)) {
                rooms.entry(room.0).or_default().take(name, &stored);
            }
        }
    }
    rooms
}
