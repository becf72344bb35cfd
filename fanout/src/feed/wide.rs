//! One subscription for all rooms of a shard, where a node follows many of them: a subscription
//! each would cost more than hearing rooms that nobody here follows.
//!
//! What must hold: from the switch on each event comes once; what lay between the two sorts of
//! subscription is healed from the log.

use async_nats::Subscriber;
use futures_util::StreamExt as _;
use shared::{log, subject};

use super::{Done, Entry, Feed, Live};

/// Channels of a shard that are subscribed to one by one. A subscription takes about 5 KiB here
/// and 1 KiB in the broker.
const NARROW: usize = 1_000;

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

impl Feed {
    /// Begins to hear all rooms together, where there are many.
    pub(super) fn widen(&mut self) {
        if self.interest != Interest::Narrow || self.entries.len() < NARROW {
            return;
        }
        self.interest = Interest::Widening;
        let (source, shard, done) = (self.source.clone(), self.shard, self.done.clone());
        tokio::spawn(async move {
            let result = async {
                let subscriber = source.client.subscribe(subject::live_of_rooms(shard)).await?;
                // The answer comes after the subscription is known to the broker.
                log::state(&source.jetstream, shard).await?;
                Ok(subscriber)
            };
            // The task may have stopped meanwhile.
            let _ = done.send(Done::Widened(result.await)).await;
        });
    }

    pub(super) fn widened(&mut self, result: anyhow::Result<Subscriber>) {
        match result {
            Ok(subscriber) => {
                tracing::info!(shard = %self.shard, rooms = self.entries.len(), "rooms are heard together");
                self.interest = Interest::Wide;
                self.live.push(Box::pin(subscriber.map(Live::Channel)));
                for entry in self.entries.values_mut() {
                    if let Entry::Heard(hub) = entry {
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
