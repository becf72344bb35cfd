//! Takes live messages from a shard's subscriptions, and keeps them until each signal of a loss that was sent before
//! them is handled.

use std::{collections::VecDeque, pin::Pin};

use async_nats::Message;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream::SelectAll};
use tokio::task::coop::unconstrained;

/// Maximum live messages that are handled before a flush, so that a socket gets their frames in one write.
const EVENTS_PER_PASS_MAX: usize = 1_024;
/// Capacity of the queue that stays allocated while it is empty.
const IDLE_CAPACITY: usize = 64;

/// A live message, by the kind of subscription that received it.
pub(super) enum LiveMessage {
    Channel(Message),
    People(Message),
}

/// The messages of a subscription.
pub(super) type MessageStream = Pin<Box<dyn Stream<Item = Message> + Send>>;

/// The subscriptions of a shard, and the messages that were taken from them.
pub(super) struct Inbox {
    subscriptions: SelectAll<Pin<Box<dyn Stream<Item = LiveMessage> + Send>>>,
    messages: VecDeque<LiveMessage>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { subscriptions: SelectAll::new(), messages: VecDeque::new() }
    }

    /// Adds a subscription to channels; it ends with its stream.
    pub(super) fn add_channels(&mut self, messages: impl Stream<Item = Message> + Send + 'static) {
        self.subscriptions.push(messages.map(LiveMessage::Channel).boxed());
    }

    /// Adds a subscription to the shard's people.
    pub(super) fn add_people(&mut self, messages: MessageStream) {
        self.subscriptions.push(messages.map(LiveMessage::People).boxed());
    }

    pub(super) fn has_subscriptions(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// Waits for a message and takes it. Cancel safe. `None` once all subscriptions have ended.
    pub(super) async fn receive(&mut self) -> Option<()> {
        let message = self.subscriptions.next().await?;
        self.messages.push_back(message);
        Some(())
    }

    /// Takes the messages that have arrived, as many as one pass handles. True where none is left.
    pub(super) fn fill(&mut self) -> bool {
        while self.messages.len() < EVENTS_PER_PASS_MAX {
            match unconstrained(self.subscriptions.next()).now_or_never() {
                Some(Some(message)) => self.messages.push_back(message),
                _ => return true,
            }
        }
        false
    }

    /// The next message that was taken.
    pub(super) fn pop(&mut self) -> Option<LiveMessage> {
        let message = self.messages.pop_front();
        if message.is_none() && self.messages.capacity() > IDLE_CAPACITY {
            self.messages.shrink_to(IDLE_CAPACITY);
        }
        message
    }

    /// Drops all messages that have arrived.
    pub(super) fn discard(&mut self) {
        self.messages.clear();
        while let Some(Some(_)) = unconstrained(self.subscriptions.next()).now_or_never() {}
    }

    /// Adds a message as if a subscription had received it.
    #[cfg(any(test, feature = "bench"))]
    pub(super) fn push(&mut self, message: LiveMessage) {
        self.messages.push_back(message);
    }
}
