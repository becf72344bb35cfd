//! Events that go to every socket of a person, whichever channels these follow.
//!
//! Each shard subscribes to every such kind of event, for all its people together. What must hold: a socket that
//! follows the person's channel is pushed a stored event by that channel, any other socket by this module: each once.
//! Events that are not stored (a signal, the copy of an event of a contact's channel) are pushed by this module alone.
//!
//! Signals come by a connection of their own. The barrier is asked on the other connection, so it does not prove that
//! the broker knows the subscription for signals: one that is sent just as the node starts may be lost. Signals are
//! never stored, and nothing promises that they arrive.

use async_nats::{Message, header::NATS_SEQUENCE};
use bytes::Bytes;
use futures_util::StreamExt as _;
use log::StreamState;
use protocol::{
    event::{EventName, live},
    id::{Shard, ShardCount, UserId},
    subject::{self, Channel},
};
use tokio::sync::watch;

use super::{Feed, Live, Messages, Source, heard::HeardSet, work::Work};
use crate::render::{Form, native};

/// The shards that this node has subscribed to for their people, so that a socket can wait for its person's shard.
#[derive(Clone, Debug)]
pub(crate) struct PeopleHeard(watch::Sender<Vec<bool>>);

impl PeopleHeard {
    /// No shard yet.
    pub(crate) fn new(shards: ShardCount) -> Self {
        Self(watch::Sender::new(vec![false; shards.all().count()]))
    }

    fn begin(&self, shard: Shard) {
        self.0.send_modify(|heard| heard[shard.index()] = true);
    }

    /// Resolves once every invitation that is stored from then on reaches the sockets of the shard's people. Says
    /// nothing of events that are not stored.
    pub(crate) async fn wait(&self, shard: Shard) {
        // The sender lives in self: waiting can't fail.
        let _ = self.0.subscribe().wait_for(|heard| heard[shard.index()]).await;
    }
}

/// The stored events that go to every socket of a person.
const STORED: [EventName; 1] = [EventName::Invitation];

/// How far the stored events of a shard's people are pushed.
#[derive(Default)]
pub(super) struct People {
    /// The stream's end when the subscriptions stood: earlier events are not pushed here. `None` before that.
    began: Option<u64>,
    /// The last event that was pushed.
    last: u64,
    /// The events that were pushed. One that is found only after newer ones is pushed all the same: invitations have
    /// no order among each other, and closing all sockets of a person for one would be worse.
    heard: HeardSet,
    /// Events may have been lost while the shard was being subscribed to.
    doubt: bool,
}

impl People {
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Whether an event should have been pushed, and was not.
    pub(super) fn lack(&self, seq: u64) -> bool {
        self.began.is_some_and(|began| seq > began) && !self.heard.has(seq)
    }

    /// Notes that events may have been lost. Does nothing once the subscriptions stand: healing brings these events.
    pub(super) fn doubt(&mut self) {
        self.doubt |= self.began.is_none();
    }

    /// Everything up to `seq` was read from the log.
    pub(super) fn healed(&mut self, seq: u64) {
        self.last = self.last.max(seq);
        self.heard.raise(seq);
    }

    /// Everything up to `seq` was pushed for sure.
    pub(super) fn raise(&mut self, seq: u64) {
        self.heard.raise(seq);
    }

    /// Begins again with another log: events up to `seq` are not pushed.
    pub(super) fn begin_again(&mut self, seq: u64) {
        self.began = self.began.map(|_| seq);
        self.last = seq;
        self.heard.begin_again(seq);
    }
}

/// The subscriptions, and where the stream ended after they stood.
pub(super) struct Opened {
    pub(super) people: Vec<Messages>,
    pub(super) elections: Messages,
    pub(super) state: StreamState,
}

/// Whether an event of that name is pushed to a person's sockets without being stored.
pub(super) fn is_unstored(event: &str) -> bool {
    event == live::SIGNAL || live::COPIED.iter().any(|name| name.as_str() == event)
}

/// Subscribes, then asks for the barrier. Waits a moment before it returns an error.
pub(super) async fn open(source: &Source, shard: Shard) -> anyhow::Result<Opened> {
    let result = async {
        let signals = source.unstored.subscribe(subject::live_filter_of_people(shard, live::SIGNAL)).await?;
        let mut people: Vec<Messages> = vec![signals.boxed()];
        for event in STORED.iter().chain(&live::COPIED) {
            people.push(source.subscribe(shard, subject::live_filter_of_people(shard, event.as_str())).await?);
        }
        let elections = source.subscribe(shard, subject::elections(shard)).await?;
        let state = log::state(&source.jetstream, shard).await?;
        Ok(Opened { people, elections, state })
    };
    let result = result.await;
    if result.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    result
}

impl Feed {
    pub(super) fn people_opened(&mut self, result: anyhow::Result<Opened>) {
        let Opened { people, elections, state } = match result {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, shard = %self.shard, "the shard's people can't be heard yet");
                return self.todo.push(Work::People);
            }
        };
        if std::mem::take(&mut self.people.doubt) {
            // Events may have been lost since the barrier: it is asked for again.
            return self.todo.push(Work::People);
        }
        for messages in people {
            self.live.push(messages.map(Live::People).boxed());
        }
        self.signals.hear_elections(elections);
        // The first channels were followed before elections were subscribed to.
        let is_late = self.position.sure().is_some();
        self.people = People { began: Some(state.last), last: state.last, ..People::default() };
        self.people.heard.begin_again(state.last);
        self.source.people.begin(self.shard);
        self.begin(state);
        if is_late {
            self.heal_heard("opened", None);
        }
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

    /// Pushes a stored event of a person to all of their sockets, where it is of such a kind and was not pushed before.
    pub(super) fn push_stored(
        &mut self,
        user: &UserId,
        channel: &Channel,
        event: &str,
        seq: u64,
        payload: &Bytes,
    ) {
        if !STORED.iter().any(|name| name.as_str() == event) || !self.people.lack(seq) {
            return;
        }
        self.people.last = self.people.last.max(seq);
        self.people.heard.insert(seq);
        let Some(frame) = native::push(channel, event, seq, payload) else { return };
        for (connection, outbox) in self.source.sessions.of(user) {
            let is_told = self.hub(channel).is_some_and(|hub| hub.has(connection));
            if !is_told && outbox.form() != Form::Match {
                outbox.push(frame.clone());
            }
        }
    }
}
