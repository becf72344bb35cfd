//! Switches a shard from a subscription for each room to one for all, where a node follows many: one for each room
//! would cost more than receiving rooms without subscribers.
//!
//! What must hold: after the switch each event is received once; events between the two kinds of subscriptions are
//! caught up from the log.

use protocol::{
    id::Shard,
    subject::{self, Channel},
};

use super::{ShardContext, inbox::MessageStream};

/// Number of a shard's channels from which on all rooms are received together. A subscription takes about 5 KiB here
/// and 1 KiB in the broker.
const WILDCARD_FROM_CHANNELS: usize = if cfg!(test) { 4 } else { 1_000 };

/// How a shard's rooms are received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RoomInterest {
    /// One by one.
    #[default]
    PerRoom,
    /// One by one, while the wildcard subscription is being opened.
    OpeningWildcard,
    /// All together, by the wildcard subscription.
    Wildcard,
}

/// Subscribes to all rooms. Returns once the broker knows the subscription.
pub(super) async fn open(context: &ShardContext, shard: Shard) -> anyhow::Result<MessageStream> {
    let messages = context.subscribe(shard, subject::live_filter_of_rooms(shard)).await?;
    log::state(&context.jetstream, shard).await?;
    Ok(messages)
}

impl RoomInterest {
    /// Whether the events of a channel arrive by the wildcard subscription.
    pub(super) fn covers(self, channel: &Channel) -> bool {
        self == Self::Wildcard && matches!(channel, Channel::Room(_))
    }

    /// Decides whether to open the wildcard subscription now, because the shard has many channels.
    pub(super) fn start_wildcard_if_many(&mut self, channels: usize) -> bool {
        let starts = *self == Self::PerRoom && channels >= WILDCARD_FROM_CHANNELS;
        if starts {
            *self = Self::OpeningWildcard;
        }
        starts
    }

    /// Returns the wildcard subscription if it was opened. Otherwise rooms are still received one by one.
    pub(super) fn finish_opening_wildcard(
        &mut self,
        result: anyhow::Result<MessageStream>,
        shard: Shard,
    ) -> Option<MessageStream> {
        match result {
            Ok(messages) => {
                *self = Self::Wildcard;
                Some(messages)
            }
            Err(error) => {
                tracing::warn!(%error, %shard, "the wildcard subscription could not be opened: rooms are still received one by one");
                *self = Self::PerRoom;
                None
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
    use crate::shard::bench;

    #[tokio::test]
    async fn wildcard_subscription_ends_only_those_of_rooms() {
        let (mut task, _loss_sources) = bench::shard_task().await;
        let user = Channel::User("u1".parse().expect("an id"));
        let mut subscriptions = Vec::new();
        for channel in [Channel::Room(RoomId(1)), user, Channel::System] {
            let (own_subscription, ended) = oneshot::channel();
            task.channels.open(&channel, 5, 1, own_subscription);
            subscriptions.push((channel, ended));
        }
        task.finish_opening_wildcard(Ok(stream::pending().boxed()));
        for (channel, mut ended) in subscriptions {
            let is_own = ended.try_recv() == Err(TryRecvError::Empty);
            assert_eq!(is_own, !matches!(channel, Channel::Room(_)), "{channel}");
        }
    }
}
