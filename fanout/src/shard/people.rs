//! Pushes events to every socket of a person, whichever channels these follow.
//!
//! Each shard subscribes to every such kind of event, for all its people together. What must hold: a socket that
//! follows the person's channel is pushed a stored event by that channel, any other socket by this module, each once.
//! Events that are not stored (a signal, the copy of an event of a contact's channel) are pushed by this module alone.
//!
//! Signals are received by a connection of their own. The barrier is asked on the other connection, so it does not
//! prove that the broker knows the subscription for signals: one that is sent just as the node starts may be lost.
//! Signals are never stored, and nothing promises that they arrive.

use async_nats::{Message, header::NATS_SEQUENCE};
use futures_util::StreamExt as _;
use log::StreamState;
use protocol::{
    event::{EventName, live},
    id::{Shard, ShardCount},
    subject::{self, Channel},
};
use tokio::sync::watch;

use super::{ShardContext, channels::Channels, inbox::MessageStream, received::ReceivedSet};
use crate::{
    encode::{PushFormat, event::LiveEvent, native},
    outbox::registry::SocketRegistry,
};

/// The shards that this node has subscribed to for their people, so that a socket can wait for its person's shard.
#[derive(Clone, Debug)]
pub(crate) struct PeopleReady(watch::Sender<Vec<bool>>);

impl PeopleReady {
    /// No shard yet.
    pub(crate) fn new(shards: ShardCount) -> Self {
        Self(watch::Sender::new(vec![false; shards.all().count()]))
    }

    pub(super) fn mark_ready(&self, shard: Shard) {
        self.0.send_modify(|is_ready| is_ready[shard.index()] = true);
    }

    /// Resolves once every invitation that is stored from then on reaches the sockets of the shard's people. Says
    /// nothing of events that are not stored.
    pub(crate) async fn wait_until_ready(&self, shard: Shard) {
        // The sender lives in self: waiting can't fail.
        let _ = self.0.subscribe().wait_for(|is_ready| is_ready[shard.index()]).await;
    }
}

/// The stored events that go to every socket of a person.
const STORED_EVENTS: [EventName; 1] = [EventName::Invitation];

/// Pushes the events of a shard's people, and knows which stored ones were pushed.
#[derive(Default)]
pub(super) struct People {
    /// The stream's end once the subscriptions were made: earlier events are not pushed by this module. `None` before.
    start_seq: Option<u64>,
    /// The last event that was pushed.
    last_seq: u64,
    /// The events that were pushed. One that is found only after newer ones is pushed all the same: invitations have
    /// no order among each other, and closing all sockets of a person for one would be worse.
    received: ReceivedSet,
    /// Events may have been lost while the shard was being subscribed to.
    may_lack_events: bool,
}

impl People {
    /// Begins to push, once the subscriptions stand and the end of the stream was read after that. False if events may
    /// have been lost since: then the shard has to subscribe again.
    pub(super) fn begin(&mut self, stream_end: u64) -> bool {
        if std::mem::take(&mut self.may_lack_events) {
            return false;
        }
        *self = Self { start_seq: Some(stream_end), last_seq: stream_end, ..Self::default() };
        self.received.reset(stream_end);
        true
    }

    /// Pushes a live message of a person to the sockets that are to get it.
    pub(super) fn receive(&mut self, message: &Message, sockets: &SocketRegistry, channels: &Channels) {
        let Ok(parsed) = subject::parse(&message.subject) else { return };
        let Channel::User(user) = &parsed.channel else { return };
        let headers = message.headers.as_ref();
        let seq = headers.and_then(|headers| headers.get_last(NATS_SEQUENCE)?.as_str().parse().ok());
        match seq {
            Some(seq) => {
                let event = LiveEvent { name: parsed.event, seq, headers, payload: &message.payload };
                self.push_stored(&parsed.channel, event, sockets, channels);
            }
            None if is_unstored_person_event(parsed.event) => {
                let frame = native::unstored_push_frame(&parsed.channel, parsed.event, &message.payload);
                for (_, outbox) in sockets.of_person(user) {
                    outbox.push_unstored(&frame);
                }
            }
            None => {}
        }
    }

    /// Pushes a stored event of a person to all of their sockets that do not follow the person's channel, if it is of a
    /// kind that is pushed to every socket, and was not pushed before.
    pub(super) fn push_stored(
        &mut self,
        channel: &Channel,
        event: LiveEvent<'_>,
        sockets: &SocketRegistry,
        channels: &Channels,
    ) {
        let Channel::User(user) = channel else { return };
        if !STORED_EVENTS.iter().any(|name| name.as_str() == event.name) || !self.is_missing(event.seq) {
            return;
        }
        self.last_seq = self.last_seq.max(event.seq);
        self.received.insert(event.seq);
        let Some(frame) = native::push_frame(channel, event.name, event.seq, event.payload) else { return };
        let channel_state = channels.get(channel);
        for (socket_id, outbox) in sockets.of_person(user) {
            let is_subscribed = channel_state.is_some_and(|state| state.has_subscriber(socket_id));
            if !is_subscribed && outbox.format() != PushFormat::Match {
                outbox.push(frame.clone());
            }
        }
    }

    pub(super) const fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Whether an event should have been pushed, and was not.
    pub(super) fn is_missing(&self, seq: u64) -> bool {
        self.start_seq.is_some_and(|start| seq > start) && !self.received.contains(seq)
    }

    /// Notes that events may have been lost. Does nothing once the subscriptions stand: catch-up brings these events.
    pub(super) fn note_possible_loss(&mut self) {
        self.may_lack_events |= self.start_seq.is_none();
    }

    /// Everything up to `seq` was read from the log.
    pub(super) fn note_caught_up_to(&mut self, seq: u64) {
        self.last_seq = self.last_seq.max(seq);
        self.received.mark_complete_up_to(seq);
    }

    /// Everything up to `seq` was pushed for sure.
    pub(super) fn mark_complete_up_to(&mut self, seq: u64) {
        self.received.mark_complete_up_to(seq);
    }

    /// Begins again with another log: events up to `seq` are not pushed.
    pub(super) fn reset(&mut self, seq: u64) {
        self.start_seq = self.start_seq.map(|_| seq);
        self.last_seq = seq;
        self.received.reset(seq);
    }
}

/// The subscriptions, and the end of the stream after they were made.
pub(super) struct OpenedPeople {
    pub(super) messages: Vec<MessageStream>,
    pub(super) elections: MessageStream,
    pub(super) state: StreamState,
}

/// Whether an event of that name is pushed to a person's sockets without being stored.
pub(super) fn is_unstored_person_event(event: &str) -> bool {
    event == live::SIGNAL || live::COPIED.iter().any(|name| name.as_str() == event)
}

/// Subscribes, then asks for the barrier. Waits a moment before it returns an error.
pub(super) async fn open(context: &ShardContext, shard: Shard) -> anyhow::Result<OpenedPeople> {
    let result = async {
        let signals =
            context.unstored_client.subscribe(subject::live_filter_of_people(shard, live::SIGNAL)).await?;
        let mut messages: Vec<MessageStream> = vec![signals.boxed()];
        for event in STORED_EVENTS.iter().chain(&live::COPIED) {
            messages
                .push(context.subscribe(shard, subject::live_filter_of_people(shard, event.as_str())).await?);
        }
        let elections = context.subscribe(shard, subject::elections(shard)).await?;
        let state = log::state(&context.jetstream, shard).await?;
        Ok(OpenedPeople { messages, elections, state })
    };
    let result = result.await;
    if result.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    result
}
