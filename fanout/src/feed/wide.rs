//! One subscription for all rooms of a shard, where a node follows many of them: a subscription
//! each would cost more than hearing rooms that nobody here follows.
//!
//! What must hold: from the switch on each event comes once; what lay between the two sorts of
//! subscription is healed from the log.

use futures_util::StreamExt as _;
use protocol::{
    id::Shard,
    subject::{self, Channel},
};

use super::{Entry, Feed, Live, Messages, Source, work::Work};

/// Channels of a shard that are subscribed to one by one. A subscription takes about 5 KiB here
/// and 1 KiB in the broker.
const NARROW: usize = if cfg!(test) { 4 } else { 1_000 };

/// How a shard's rooms are heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Interest {
    /// One by one.
    #[default]
    Narrow,
    /// The wide subscription is being made.
    Widening,
    /// All together.
    Wide,
}

/// Subscribes to all rooms. It answers after the subscription is known to the broker.
pub(super) async fn open(source: &Source, shard: Shard) -> anyhow::Result<Messages> {
    let messages = source.subscribe(shard, subject::live_filter_of_rooms(shard)).await?;
    log::state(&source.jetstream, shard).await?;
    Ok(messages)
}

impl Feed {
    /// Begins to hear all rooms together, where there are many.
    pub(super) fn widen(&mut self) {
        if self.interest == Interest::Narrow && self.entries.len() >= NARROW {
            self.interest = Interest::Widening;
            self.todo.push(Work::Widen);
        }
    }

    pub(super) fn widened(&mut self, result: anyhow::Result<Messages>) {
        match result {
            Ok(messages) => {
                tracing::info!(shard = %self.shard, rooms = self.entries.len(), "rooms are heard together");
                self.interest = Interest::Wide;
                self.live.push(messages.map(Live::Channel).boxed());
                for (channel, entry) in &mut self.entries {
                    // People, teams and the system are not among the rooms: each keeps its own subscription.
                    if let (Channel::Room(_), Entry::Heard(hub)) = (channel, entry) {
                        hub.is_heard_otherwise();
                    }
                }
                self.heal("widened", None);
            }
            Err(error) => {
                tracing::warn!(%error, shard = %self.shard, "rooms are heard one by one still");
                self.interest = Interest::Narrow;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use protocol::id::RoomId;
    use tokio::sync::oneshot::{self, error::TryRecvError};

    use super::*;
    use crate::{feed::bench, hub::channel::Hub};

    #[tokio::test]
    async fn widening_ends_the_own_subscriptions_of_rooms_alone() {
        let (mut feed, _said) = bench::feed().await;
        let user = Channel::User("u1".parse().expect("an id"));
        let mut subscriptions = Vec::new();
        for channel in [Channel::Room(RoomId(1)), user, Channel::System] {
            let (interest, ended) = oneshot::channel();
            let hub = Hub::new(channel.clone(), feed.shard.index(), 5, 1, interest, feed.metrics.clone());
            subscriptions.push((channel.clone(), ended));
            feed.entries.insert(channel, Entry::Heard(Box::new(hub)));
        }
        feed.widened(Ok(stream::pending().boxed()));
        for (channel, mut ended) in subscriptions {
            let is_own = ended.try_recv() == Err(TryRecvError::Empty);
            assert_eq!(is_own, !matches!(channel, Channel::Room(_)), "{channel}");
        }
    }
}
