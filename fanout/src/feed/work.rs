//! Slow work of a shard, each piece in a task of its own: the shard's task decides, and this asks or reads.
//!
//! What must hold: each piece of work that the shard waits for reports its end, also where it panics.

use std::{future::Future, panic::AssertUnwindSafe};

use anyhow::anyhow;
use futures_util::FutureExt as _;
use log::LogEnd;
use protocol::{
    caller::Caller,
    id::{RoomId, Shard},
    subject::{self, Channel},
};
use service::metric_names as names;
use tokio::sync::mpsc;

use super::{
    Done, Source,
    heal::{self, Healed},
    open, people,
    replay::{self, Asked, Found, Replay},
    rights, snapshot, wide,
};
use crate::hub::follower::Follower;

/// A piece of slow work.
pub(super) enum Work {
    /// Subscribe to the events of the shard's people, and to the elections of its stream's leader.
    People,
    /// Subscribe to a channel, unless `is_heard`: its room is received with all others.
    Open { channel: Channel, is_heard: bool },
    /// Subscribe to all rooms.
    Widen,
    /// Ask who was in a room up to an event.
    Snapshot { room: RoomId, upto: u64 },
    /// Ask where the stream ends, for a follower that claims to have later events than this node.
    Barrier { channel: Channel, follower: Follower },
    /// Read older events of a channel for followers that resume.
    Replay { channel: Channel, asked: Asked },
    /// Read the shard's events after the first that may be lost.
    Heal(heal::Range),
    /// Tell the persister that the log has lost events which this node has received.
    TellLoss(LogEnd),
    /// Ask api whether the people who follow a channel still may.
    Confirm { channel: Channel, callers: Vec<Caller> },
}

impl Work {
    const fn name(&self) -> &'static str {
        match self {
            Self::People => "people",
            Self::Open { .. } => "open",
            Self::Widen => "widen",
            Self::Snapshot { .. } => "snapshot",
            Self::Barrier { .. } => "barrier",
            Self::Replay { .. } => "replay",
            Self::Heal(_) => "heal",
            Self::TellLoss(_) => "tell_loss",
            Self::Confirm { .. } => "confirm",
        }
    }

    /// The report where it panics; `None` where the shard does not wait for one.
    fn failed(&self) -> Option<Done> {
        let error = || anyhow!("it panicked");
        match self {
            Self::People => Some(Done::People(Err(error()))),
            Self::Open { channel, .. } => {
                Some(Done::Opened { channel: channel.clone(), result: Err(error()) })
            }
            Self::Widen => Some(Done::Widened(Err(error()))),
            Self::Snapshot { room, upto } => {
                Some(Done::Snapshot { channel: Channel::Room(*room), upto: *upto, result: Err(error()) })
            }
            Self::Replay { channel, asked } => {
                let replay = Replay { asked: *asked, found: Found::Unreadable };
                Some(Done::Replayed { channel: channel.clone(), replay })
            }
            Self::Heal(_) => Some(Done::Healed(Healed::Panicked)),
            Self::Confirm { channel, .. } => Some(Done::Confirmed { channel: channel.clone(), result: None }),
            // A barrier's follower is dropped with it: its session answers that the channel can't be followed now.
            Self::Barrier { .. } | Self::TellLoss(_) => None,
        }
    }

    /// Starts it in a task of its own, which reports to `done`.
    pub(super) fn start(self, shard: Shard, source: Source, done: mpsc::Sender<Done>) {
        let (name, failed) = (self.name(), self.failed());
        let work = self.run(shard, source, done.clone());
        tokio::spawn(async move {
            if let Some(report) = supervised(name, work, failed).await {
                // The task may have stopped meanwhile.
                let _ = done.send(report).await;
            }
        });
    }

    async fn run(self, shard: Shard, source: Source, done: mpsc::Sender<Done>) -> Option<Done> {
        Some(match self {
            Self::People => Done::People(people::open(&source, shard).await),
            Self::Open { channel, is_heard } => {
                let result = open::open(&source, shard, &channel, is_heard).await;
                Done::Opened { channel, result }
            }
            Self::Widen => Done::Widened(wide::open(&source, shard).await),
            Self::Snapshot { room, upto } => {
                let result = snapshot::take_again(&source, room, upto).await;
                Done::Snapshot { channel: Channel::Room(room), upto, result }
            }
            Self::Barrier { channel, follower } => {
                let result = log::state(&source.jetstream, shard).await;
                Done::Barrier { channel, follower, result }
            }
            Self::Replay { channel, asked } => {
                let found = replay::read(&source, &channel, asked).await;
                Done::Replayed { channel, replay: Replay { asked, found } }
            }
            Self::Heal(range) => {
                heal::read(&source, shard, range, &done).await;
                return None;
            }
            Self::TellLoss(word) => {
                let word = serde_json::to_vec(&word).ok()?;
                if let Err(error) = source.client.publish(subject::log_end(shard), word.into()).await {
                    tracing::warn!(%error, %shard, "the persister could not be told that the log has lost its end");
                }
                return None;
            }
            Self::Confirm { channel, callers } => {
                let result = rights::confirm(&source.ask, &channel, callers).await;
                Done::Confirmed { channel, result }
            }
        })
    }
}

/// Runs work and returns its report, or `failed` where it panics.
async fn supervised(
    name: &'static str,
    work: impl Future<Output = Option<Done>>,
    failed: Option<Done>,
) -> Option<Done> {
    // Unwind safe: nothing of the work is used after a panic.
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(report) => report,
        Err(_) => {
            metrics::counter!(names::WORK_PANICS_TOTAL, "work" => name).increment(1);
            tracing::error!(work = name, "a shard's work panicked");
            failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_reported_as_failed() {
        let range = heal::Range { after: 1, highest: 1, epoch: None };
        let channel = Channel::Room(RoomId(1));
        let asked = Asked { since: 1, upto: 2, epoch: 1, began: 2, space: (1, 1) };
        let all = [
            Work::People,
            Work::Open { channel: channel.clone(), is_heard: false },
            Work::Widen,
            Work::Snapshot { room: RoomId(1), upto: 1 },
            Work::Replay { channel, asked },
            Work::Heal(range),
            Work::Confirm { channel: Channel::Room(RoomId(1)), callers: vec![] },
        ];
        for work in all {
            let report = supervised(work.name(), async { panic!("as a test has it") }, work.failed()).await;
            assert!(report.is_some(), "{}", work.name());
        }
    }
}
