//! What concerns a person goes to every socket of theirs, whatever these follow.
//!
//! One subscription a shard for all its people. What must hold: a socket that follows the person's
//! channel gets such an event from there, any other from here: each once. What is not stored (a signal, the
//! copy of what a contact's channel stores) comes from here alone.

use async_nats::{Message, Subscriber, header::NATS_SEQUENCE};
use bytes::Bytes;
use futures_util::StreamExt as _;
use shared::{
    event::{EventName, live},
    id::{Shard, ShardCount, UserId},
    log::{self, StreamState},
    subject::{self, Channel},
};
use tokio::sync::watch;

use super::{Done, Feed, Live};
use crate::render::{Form, native};

/// The shards whose people this node hears, so that a socket can wait for its person's.
#[derive(Clone, Debug)]
pub(crate) struct PeopleHeard(watch::Sender<Vec<bool>>);

impl PeopleHeard {
    /// None yet.
    pub(crate) fn new(shards: ShardCount) -> Self {
        Self(watch::Sender::new(vec![false; shards.all().count()]))
    }

    fn begin(&self, shard: Shard) {
        self.0.send_modify(|heard| heard[shard.index()] = true);
    }

    /// Resolves once everything that is stored from then on reaches the sockets of the shard's people.
    pub(crate) async fn wait(&self, shard: Shard) {
        // The sender lives in self: waiting can't fail.
        let _ = self.0.subscribe().wait_for(|heard| heard[shard.index()]).await;
    }
}

/// The events that concern a person so much.
const STORED: [EventName; 1] = [EventName::Invitation];

/// How far people's events are pushed.
#[derive(Default)]
pub(super) struct People {
    /// Everything up to here has been, or lies before the node's beginning.
    pub(super) last: u64,
}

/// The subscriptions, and where the stream ended after they stood.
pub(super) struct Opened {
    people: Vec<Subscriber>,
    elections: Subscriber,
    state: StreamState,
}

/// Whether a person's sockets are pushed that event where it is not stored.
pub(super) fn is_unstored(event: &str) -> bool {
    event == live::SIGNAL || live::COPIED.iter().any(|name| name.as_str() == event)
}

impl Feed {
    /// Subscribes and asks, beside the task, until it succeeds.
    pub(super) fn open_people(&self) {
        let (source, shard, done) = (self.source.clone(), self.shard, self.done.clone());
        tokio::spawn(async move {
            let result = async {
                let stored = STORED.iter().chain(&live::COPIED).map(|event| event.as_str());
                let names = stored.chain([live::SIGNAL]);
                let mut people = Vec::new();
                for name in names {
                    people.push(source.client.subscribe(subject::live_of_people(shard, name)).await?);
                }
                let elections = source.client.subscribe(subject::elections(shard)).await?;
                let state = log::state(&source.jetstream, shard).await?;
                Ok(Opened { people, elections, state })
            };
            let result = result.await;
            if result.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
            // The task may have stopped meanwhile.
            let _ = done.send(Done::People(result)).await;
        });
    }

    pub(super) fn people_opened(&mut self, result: anyhow::Result<Opened>) {
        let Opened { people, elections, state } = match result {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, shard = %self.shard, "the shard's people can't be heard yet");
                return self.open_people();
            }
        };
        for subscriber in people {
            self.live.push(Box::pin(subscriber.map(Live::People)));
        }
        self.live.push(Box::pin(elections.map(|_| Live::Election)));
        self.people.last = self.people.last.max(state.last);
        self.source.people.begin(self.shard);
        self.position.begin(state.epoch, state.last);
    }

    pub(super) fn hear_people(&mut self, message: &Message) {
        let Ok(parsed) = subject::parse(&message.subject) else { return };
        let Channel::User(user) = &parsed.channel else { return };
        let seq = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get_last(NATS_SEQUENCE)?.as_str().parse().ok());
        match seq {
            Some(seq) => self.push_stored(user, &parsed.channel, parsed.event, seq, &message.payload),
            None if is_unstored(parsed.event) => {
                let frame = native::push_unstored(&parsed.channel, parsed.event, &message.payload);
                for (_, outbox) in self.source.sessions.of(user) {
                    outbox.push_unstored(&frame);
                }
            }
            None => {}
        }
    }

    /// Pushes a stored event of a person, where it is one that all of their sockets get.
    pub(super) fn push_stored(
        &mut self,
        user: &UserId,
        channel: &Channel,
        event: &str,
        seq: u64,
        payload: &Bytes,
    ) {
        if seq <= self.people.last || !STORED.iter().any(|name| name.as_str() == event) {
            return;
        }
        self.people.last = seq;
        let Some(frame) = native::push(channel, event, seq, payload) else { return };
        for (connection, outbox) in self.source.sessions.of(user) {
            let is_told = self.hub(channel).is_some_and(|hub| hub.has(connection));
            if !is_told && outbox.form() != Form::Match {
                outbox.push(frame.clone());
            }
        }
    }
}
