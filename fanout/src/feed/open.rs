//! Beginning to hear a channel: the subscription first, then the barrier, then who is there.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::Subscriber;
use futures_util::StreamExt as _;
use shared::{
    log::{self, StreamState},
    subject::Channel,
};
use tokio::{sync::oneshot, time::timeout};

use super::{Done, Entry, Feed, GATE, Live, Opening, snapshot, wide::Interest};
use crate::hub::{channel::Hub, follower::Follower};

/// How long a first follower waits to be told who is in the room.
const SNAPSHOT: Duration = Duration::from_millis(1_500);

/// A subscription, where the stream ended after it stood, and who was in the room then.
pub(super) struct Opened {
    /// None where its room is heard with all others.
    subscriber: Option<Subscriber>,
    state: StreamState,
    people: anyhow::Result<Vec<snapshot::Word>>,
}

impl Feed {
    /// Subscribes and asks, beside the task.
    pub(super) fn open(&self, channel: Channel) {
        let (source, shard, done) = (self.source.clone(), self.shard, self.done.clone());
        let is_heard = self.interest == Interest::Wide && matches!(channel, Channel::Room(_));
        tokio::spawn(async move {
            let result = async {
                let subscriber = if is_heard {
                    None
                } else {
                    Some(source.client.subscribe(channel.live(source.shards)).await?)
                };
                let state = log::state(&source.jetstream, shard).await.context("the barrier")?;
                let people = match channel {
                    Channel::Room(room) => {
                        let taken = timeout(SNAPSHOT, snapshot::take(&source, room, state.last)).await;
                        taken.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time")))
                    }
                    _ => Ok(vec![]),
                };
                Ok(Opened { subscriber, state, people })
            };
            let result = result.await;
            // The task may have stopped meanwhile.
            let _ = done.send(Done::Opened { channel, result }).await;
        });
    }

    pub(super) fn opened(&mut self, channel: &Channel, result: anyhow::Result<Opened>) {
        let Some(Entry::Opening(opening)) = self.entries.remove(channel) else { return };
        let Opening { waiting, gate, doubt } = opening;
        let Opened { subscriber, state, people } = match result {
            Ok(opened) => opened,
            Err(error) => {
                // Their `done` is dropped: each session answers that it could not be.
                tracing::warn!(%error, %channel, "a channel could not be followed");
                return;
            }
        };
        let (interest, ended) = oneshot::channel();
        let is_wide = self.interest == Interest::Wide && matches!(channel, Channel::Room(_));
        // Where all rooms are heard together by now, one of its own would repeat what is not stored.
        let is_doubled = is_wide && subscriber.is_some();
        if let Some(subscriber) = subscriber.filter(|_| !is_wide) {
            self.live.push(Box::pin(subscriber.take_until(ended).map(Live::Channel)));
        }
        self.position.begin(state.epoch, state.last);
        let hub = Hub::new(
            channel.clone(),
            self.shard.index(),
            state.last,
            state.epoch,
            interest,
            self.metrics.clone(),
        );
        self.entries.insert(channel.clone(), Entry::Heard(Box::new(hub)));
        self.snapshot_taken(channel, state.last, people);
        if is_doubled || doubt || gate.len() == GATE {
            self.heal_heard("opened", Some(state.last));
        } else {
            gate.iter().for_each(|message| self.hear_channel(message));
        }
        for follower in waiting {
            self.barrier(channel, follower, Ok(state));
        }
    }

    /// Lets a follower in where all it needs is known; else asks first how far the stream is.
    pub(super) fn resume(&mut self, channel: &Channel, follower: Follower) {
        let Some(hub) = self.hub(channel) else { return };
        match follower.since {
            None => hub.admit(follower, true),
            Some(since) if since <= hub.last => self.recover(channel, follower),
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
        let state = match result {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!(%error, %channel, "the barrier failed");
                return;
            }
        };
        let Some(hub) = self.hub(channel) else { return };
        match follower.since {
            None => hub.admit(follower, true),
            Some(since) if since > state.last => hub.admit(follower, false),
            Some(_) => self.recover(channel, follower),
        }
    }

    /// A follower whose `since` is of this log, if its epoch is.
    fn recover(&mut self, channel: &Channel, follower: Follower) {
        let Some(hub) = self.hub(channel) else { return };
        let same_epoch = follower.epoch.is_none_or(|epoch| epoch == hub.epoch);
        if !same_epoch {
            hub.admit(follower, false);
        } else if follower.reach().is_some_and(|reach| reach >= hub.ring.base()) {
            hub.admit(follower, true);
        } else {
            hub.resuming.push(follower);
            self.replay(channel);
        }
    }
}
