//! Beginning to hear a channel: the subscription first, then the barrier, then who is there.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use log::StreamState;
use protocol::{id::Shard, subject::Channel};
use tokio::{sync::oneshot, time::timeout};

use super::{Entry, Feed, GATE, Live, Messages, Opening, Source, snapshot, wide::Interest, work::Work};
use crate::hub::{channel::Hub, follower::Follower};

/// How long a first follower waits to be told who is in the room.
const SNAPSHOT: Duration = Duration::from_millis(1_500);

/// A subscription, where the stream ended after it stood, and who was in the room then.
pub(super) struct Opened {
    /// None where its room is heard with all others.
    pub(super) messages: Option<Messages>,
    pub(super) state: StreamState,
    pub(super) people: anyhow::Result<Vec<snapshot::Word>>,
}

/// Subscribes, and asks.
pub(super) async fn open(
    source: &Source,
    shard: Shard,
    channel: &Channel,
    is_heard: bool,
) -> anyhow::Result<Opened> {
    let messages: Option<Messages> =
        if is_heard { None } else { Some(source.subscribe(shard, channel.live_filter(source.shards)).await?) };
    let state = log::state(&source.jetstream, shard).await.context("the barrier")?;
    let people = match *channel {
        Channel::Room(room) => {
            let taken = timeout(SNAPSHOT, snapshot::take(source, room, state.last)).await;
            taken.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time")))
        }
        _ => Ok(vec![]),
    };
    Ok(Opened { messages, state, people })
}

impl Feed {
    /// Subscribes and asks, beside the task.
    pub(super) fn open(&mut self, channel: Channel) {
        let is_heard = self.interest == Interest::Wide && matches!(channel, Channel::Room(_));
        self.todo.push(Work::Open { channel, is_heard });
    }

    /// What must hold: a channel begins no earlier than what is sure, and in the same log, with nothing lost
    /// since. Else its beginning is asked for again.
    pub(super) fn opened(&mut self, channel: &Channel, result: anyhow::Result<Opened>) {
        let opened = match result {
            Ok(opened) => opened,
            Err(error) => {
                // Their `done` is dropped: each session answers that it could not be.
                tracing::warn!(%error, %channel, "a channel could not be followed");
                self.entries.remove(channel);
                return;
            }
        };
        if self.healing.is_some() {
            // Some of what is read was reported before the channel was there.
            return self.kept.push((channel.clone(), opened));
        }
        let Some(Entry::Opening(opening)) = self.entries.get_mut(channel) else { return };
        let Opened { messages, state, people } = opened;
        let is_past = self.position.sure() > Some(state.last)
            || self.position.epoch().is_some_and(|epoch| epoch != state.epoch);
        if is_past || opening.doubt {
            *opening = Opening { waiting: std::mem::take(&mut opening.waiting), ..Opening::default() };
            return self.open(channel.clone());
        }
        let Opening { waiting, gate, .. } = std::mem::take(opening);
        let (interest, ended) = oneshot::channel();
        let is_wide = self.interest == Interest::Wide && matches!(channel, Channel::Room(_));
        // Where all rooms are heard together by now, one of its own would repeat what is not stored.
        let is_doubled = is_wide && messages.is_some();
        if let Some(messages) = messages.filter(|_| !is_wide) {
            self.live.push(messages.take_until(ended).map(Live::Channel).boxed());
        }
        self.begin(state);
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
        if is_doubled || gate.len() == GATE {
            self.heal_heard("opened", Some(state.last));
        } else {
            // What comes behind a gap waits for the healing as that does.
            let _is_complete = gate.iter().all(|message| self.hear_channel(message));
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
                hub.expect();
                self.todo.push(Work::Barrier { channel: channel.clone(), follower });
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
        } else if follower.reach().is_some_and(|reach| reach < hub.ring.lost()) {
            hub.admit(follower, false);
        } else {
            hub.resuming.push(follower);
            self.replay(channel);
        }
    }
}
