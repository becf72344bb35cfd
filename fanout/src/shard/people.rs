//! Pushes events to every socket of a person, whichever channels these follow.
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

use super::{MessageStream, ShardContext, ShardTask, received::ReceivedSet, work::Work};
use crate::encode::{PushFormat, native};

/// The shards that this node has subscribed to for their people, so that a socket can wait for its person's shard.
#[derive(Clone, Debug)]
pub(crate) struct PeopleReady(watch::Sender<Vec<bool>>);

impl PeopleReady {
    /// No shard yet.
    pub(crate) fn new(shards: ShardCount) -> Self {
        Self(watch::Sender::new(vec![false; shards.all().count()]))
    }

    fn mark_ready(&self, shard: Shard) {
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

/// How far the stored events of a shard's people are pushed.
#[derive(Default)]
pub(super) struct PeopleProgress {
    /// The stream's end when the subscriptions stood: earlier events are not pushed here. `None` before that.
    start_seq: Option<u64>,
    /// The last event that was pushed.
    last_seq: u64,
    /// The events that were pushed. One that is found only after newer ones is pushed all the same: invitations have
    /// no order among each other, and closing all sockets of a person for one would be worse.
    received: ReceivedSet,
    /// Events may have been lost while the shard was being subscribed to.
    may_lack_events: bool,
}

impl PeopleProgress {
    pub(super) const fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Whether an event should have been pushed, and was not.
    pub(super) fn is_missing(&self, seq: u64) -> bool {
        self.start_seq.is_some_and(|began| seq > began) && !self.received.contains(seq)
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

/// The subscriptions, and where the stream ended after they stood.
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
        let mut people: Vec<MessageStream> = vec![signals.boxed()];
        for event in STORED_EVENTS.iter().chain(&live::COPIED) {
            people
                .push(context.subscribe(shard, subject::live_filter_of_people(shard, event.as_str())).await?);
        }
        let elections = context.subscribe(shard, subject::elections(shard)).await?;
        let state = log::state(&context.jetstream, shard).await?;
        Ok(OpenedPeople { messages: people, elections, state })
    };
    let result = result.await;
    if result.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    result
}

impl ShardTask {
    pub(super) fn finish_opening_people(&mut self, result: anyhow::Result<OpenedPeople>) {
        let OpenedPeople { messages: people, elections, state } = match result {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, shard = %self.shard, "the shard's people can't be heard yet");
                return self.new_work.push(Work::People);
            }
        };
        if std::mem::take(&mut self.people.may_lack_events) {
            // Events may have been lost since the barrier: it is asked for again.
            return self.new_work.push(Work::People);
        }
        for messages in people {
            self.inbox.add_people(messages);
        }
        self.loss_signals.watch_elections(elections);
        // The first channels were followed before elections were subscribed to.
        let is_late = self.position.safe_seq().is_some();
        self.people =
            PeopleProgress { start_seq: Some(state.last), last_seq: state.last, ..PeopleProgress::default() };
        self.people.received.reset(state.last);
        self.context.people_ready.mark_ready(self.shard);
        self.set_first_position(state);
        if is_late {
            self.catch_up_open_channels("opened", None);
        }
    }

    pub(super) fn receive_person_message(&mut self, message: &Message) {
        let Ok(parsed) = subject::parse(&message.subject) else { return };
        let Channel::User(user) = &parsed.channel else { return };
        let seq = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get_last(NATS_SEQUENCE)?.as_str().parse().ok());
        match seq {
            Some(seq) => self.push_to_person(user, &parsed.channel, parsed.event, seq, &message.payload),
            None if is_unstored_person_event(parsed.event) => {
                let frame = native::unstored_push_frame(&parsed.channel, parsed.event, &message.payload);
                for (_, outbox) in self.context.sockets.of_person(user) {
                    outbox.push_unstored(&frame);
                }
            }
            None => {}
        }
    }

    /// Pushes a stored event of a person to all of their sockets, where it is of such a kind and was not pushed before.
    pub(super) fn push_to_person(
        &mut self,
        user: &UserId,
        channel: &Channel,
        event: &str,
        seq: u64,
        payload: &Bytes,
    ) {
        if !STORED_EVENTS.iter().any(|name| name.as_str() == event) || !self.people.is_missing(seq) {
            return;
        }
        self.people.last_seq = self.people.last_seq.max(seq);
        self.people.received.insert(seq);
        let Some(frame) = native::push_frame(channel, event, seq, payload) else { return };
        for (connection, outbox) in self.context.sockets.of_person(user) {
            let is_subscribed = self
                .open_channel_mut(channel)
                .is_some_and(|channel_state| channel_state.has_subscriber(connection));
            if !is_subscribed && outbox.format() != PushFormat::Match {
                outbox.push(frame.clone());
            }
        }
    }
}
