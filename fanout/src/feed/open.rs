//! Beginning to hear a channel: the subscription first, then the barrier.

use anyhow::Context as _;
use async_nats::Subscriber;
use futures_util::StreamExt as _;
use shared::{
    log::{self, StreamState},
    subject::Channel,
};
use tokio::sync::oneshot;

use super::{Done, Entry, Feed};
use crate::hub::channel::{Follower, Heard};

/// A subscription, and where the stream ended after it stood.
pub(super) struct Opened {
    subscriber: Subscriber,
    state: StreamState,
}

impl Feed {
    /// Subscribes and asks, beside the task.
    pub(super) fn open(&self, channel: Channel) {
        let (source, shard, done) = (self.source.clone(), self.shard, self.done.clone());
        tokio::spawn(async move {
            let result = async {
                let subscriber = source.client.subscribe(channel.live(source.shards)).await?;
                let state = log::state(&source.jetstream, shard).await.context("the barrier")?;
                Ok(Opened { subscriber, state })
            };
            let result = result.await;
            // The task may have stopped meanwhile.
            let _ = done.send(Done::Opened { channel, result }).await;
        });
    }

    pub(super) fn opened(&mut self, channel: &Channel, result: anyhow::Result<Opened>) {
        let Some(Entry::Opening(waiting)) = self.entries.remove(channel) else { return };
        let Opened { subscriber, state } = match result {
            Ok(opened) => opened,
            Err(error) => {
                // Their `done` is dropped: each session answers that it could not be.
                tracing::warn!(%error, %channel, "a channel could not be followed");
                return;
            }
        };
        let (interest, ended) = oneshot::channel();
        self.live.push(Box::pin(subscriber.take_until(ended)));
        self.position.begin(state.last);
        let heard = Heard::new(state.last, state.epoch, interest);
        self.entries.insert(channel.clone(), Entry::Heard(Box::new(heard)));
        for follower in waiting {
            self.barrier(channel, follower, Ok(state));
        }
    }

    /// Lets a follower in where all it needs is known; else asks first how far the stream is.
    pub(super) fn resume(&mut self, channel: &Channel, follower: Follower) {
        let index = self.shard.index();
        let Some(heard) = self.heard(channel) else { return };
        match follower.since {
            None => heard.admit(index, follower, true),
            Some(since) if since <= heard.last => self.recover(channel, follower),
            Some(_) => {
                let (source, shard, done) = (self.source.clone(), self.shard, self.done.clone());
                let channel = channel.clone();
                tokio::spawn(async move {
                    let result = log::state(&source.jetstream, shard).await;
                    // The task may have stopped meanwhile.
                    let _ = done.send(Done::Barrier { channel, follower, result }).await;
                });
            }
        }
    }

    /// A follower with the stream's present end: one that claims to have more has another log.
    pub(super) fn barrier(
        &mut self,
        channel: &Channel,
        follower: Follower,
        result: anyhow::Result<StreamState>,
    ) {
        let index = self.shard.index();
        let state = match result {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!(%error, %channel, "the barrier failed");
                return;
            }
        };
        let Some(heard) = self.heard(channel) else { return };
        match follower.since {
            None => heard.admit(index, follower, true),
            Some(since) if since > state.last => heard.admit(index, follower, false),
            Some(_) => self.recover(channel, follower),
        }
    }

    /// A follower whose `since` is of this log, if its epoch is.
    fn recover(&mut self, channel: &Channel, follower: Follower) {
        let index = self.shard.index();
        let Some(heard) = self.heard(channel) else { return };
        let same_epoch = follower.epoch.is_none_or(|epoch| epoch == heard.epoch);
        if !same_epoch {
            heard.admit(index, follower, false);
        } else if follower.since.is_some_and(|since| since >= heard.ring.base()) {
            heard.admit(index, follower, true);
        } else {
            heard.resuming.push(follower);
            self.replay(channel);
        }
    }
}
