//! Switches a shard from a subscription for each room to one for all, where a node follows many: one for each room
//! would cost more than receiving rooms that nobody here follows.
//!
//! What must hold: from the switch on each event comes once; events between the two sorts of subscription are caught up
//! from the log.

use protocol::{
    id::Shard,
    subject::{self, Channel},
};

use super::{ChannelEntry, MessageStream, ShardContext, ShardTask, work::Work};

/// Channels of a shard that are subscribed to one by one. A subscription takes about 5 KiB here
/// and 1 KiB in the broker.
const WILDCARD_FROM_CHANNELS: usize = if cfg!(test) { 4 } else { 1_000 };

/// How a shard's rooms are received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RoomInterest {
    /// One by one.
    #[default]
    PerRoom,
    /// The wide subscription is being made.
    OpeningWildcard,
    /// All together.
    Wildcard,
}

/// Subscribes to all rooms. It answers after the subscription is known to the broker.
pub(super) async fn open(context: &ShardContext, shard: Shard) -> anyhow::Result<MessageStream> {
    let messages = context.subscribe(shard, subject::live_filter_of_rooms(shard)).await?;
    log::state(&context.jetstream, shard).await?;
    Ok(messages)
}

impl ShardTask {
    /// Begins to receive all rooms together, where there are many.
    pub(super) fn open_wildcard_if_many(&mut self) {
        if self.room_interest == RoomInterest::PerRoom && self.channels.len() >= WILDCARD_FROM_CHANNELS {
            self.room_interest = RoomInterest::OpeningWildcard;
            self.new_work.push(Work::OpenWildcard);
        }
    }

    pub(super) fn finish_opening_wildcard(&mut self, result: anyhow::Result<MessageStream>) {
        match result {
            Ok(messages) => {
                tracing::info!(shard = %self.shard, rooms = self.channels.len(), "rooms are heard together");
                self.room_interest = RoomInterest::Wildcard;
                self.inbox.add_channels(messages);
                for (channel, entry) in &mut self.channels {
                    // People, teams and the system are not among the rooms: each keeps its own subscription.
                    if let (Channel::Room(_), ChannelEntry::Open(channel_state)) = (channel, entry) {
                        channel_state.end_own_subscription();
                    }
                }
                self.start_catch_up("widened", None);
            }
            Err(error) => {
                tracing::warn!(%error, shard = %self.shard, "rooms are heard one by one still");
                self.room_interest = RoomInterest::PerRoom;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use protocol::id::RoomId;
    use tokio::sync::oneshot::{self, error::TryRecvError};

    use super::*;
    use crate::shard::{bench, channel::ChannelState};

    #[tokio::test]
    async fn wildcard_subscription_ends_only_those_of_rooms() {
        let (mut task, _said) = bench::shard_task().await;
        let user = Channel::User("u1".parse().expect("an id"));
        let mut subscriptions = Vec::new();
        for channel in [Channel::Room(RoomId(1)), user, Channel::System] {
            let (interest, ended) = oneshot::channel();
            let channel_state =
                ChannelState::new(channel.clone(), task.shard.index(), 5, 1, interest, task.metrics.clone());
            subscriptions.push((channel.clone(), ended));
            task.channels.insert(channel, ChannelEntry::Open(Box::new(channel_state)));
        }
        task.finish_opening_wildcard(Ok(stream::pending().boxed()));
        for (channel, mut ended) in subscriptions {
            let is_own = ended.try_recv() == Err(TryRecvError::Empty);
            assert_eq!(is_own, !matches!(channel, Channel::Room(_)), "{channel}");
        }
    }
}
