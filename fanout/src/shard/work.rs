//! Runs the slow work of a shard (requests, reads of the log), each piece in a task of its own.
//!
//! What must hold: each piece of work that the shard waits for sends a result, even if it panics.

use std::{future::Future, panic::AssertUnwindSafe};

use anyhow::anyhow;
use futures_util::FutureExt as _;
use log::{LogEnd, StreamState};
use protocol::{
    id::{RoomId, Shard},
    subject::{self, Channel},
};
use service::metric_names as names;
use tokio::sync::mpsc;

use super::{
    ShardContext,
    catch_up::{self, CatchUpReport},
    confirm::{self, ChannelQuestion},
    inbox::MessageStream,
    interest, open, people,
    replay::{self, FinishedReplay, ReplayOutcome, ReplayRequest},
    snapshot,
    subscribe::SubscribeRequest,
};

/// A piece of slow work.
pub(super) enum Work {
    /// Subscribe to the events of the shard's people, and to the elections of its stream's leader.
    People,
    /// Open a channel. It is subscribed to, unless it is a room and all rooms are received together.
    Open { channel: Channel, is_covered_by_wildcard: bool },
    /// Subscribe to all rooms.
    OpenWildcard,
    /// Read who was in a room up to an event.
    Snapshot { room: RoomId, upto: u64 },
    /// Read the end of the stream, for a subscriber that claims to have later events than this node.
    StreamEnd { channel: Channel, request: SubscribeRequest },
    /// Read older events of a channel for subscribers that resume.
    Replay { channel: Channel, request: ReplayRequest },
    /// Read the shard's events from the first that may be lost.
    CatchUp(catch_up::CatchUpRange),
    /// Notify the persister that the log has lost events which this node has received.
    PublishLogEnd(LogEnd),
    /// Ask api whether the callers of these channels may still follow them.
    Confirm(Vec<ChannelQuestion>),
}

/// The result of slow work.
pub(super) enum WorkResult {
    People(anyhow::Result<people::OpenedPeople>),
    Opened { channel: Channel, result: anyhow::Result<open::OpenedChannel> },
    WildcardOpened(anyhow::Result<MessageStream>),
    Snapshot { channel: Channel, upto: u64, result: anyhow::Result<Vec<snapshot::SnapshotEntry>> },
    StreamEnd { channel: Channel, request: SubscribeRequest, result: anyhow::Result<StreamState> },
    Replayed { channel: Channel, replay: FinishedReplay },
    Confirmed(Vec<(Channel, Option<confirm::ChannelConfirmation>)>),
    CatchUp(CatchUpReport),
}

impl Work {
    const fn name(&self) -> &'static str {
        match self {
            Self::People => "people",
            Self::Open { .. } => "open",
            Self::OpenWildcard => "widen",
            Self::Snapshot { .. } => "snapshot",
            Self::StreamEnd { .. } => "barrier",
            Self::Replay { .. } => "replay",
            Self::CatchUp(_) => "heal",
            Self::PublishLogEnd(_) => "tell_loss",
            Self::Confirm(_) => "confirm",
        }
    }

    /// The result if it panics. `None` if the shard does not wait for one.
    fn result_of_panic(&self) -> Option<WorkResult> {
        let error = || anyhow!("it panicked");
        match self {
            Self::People => Some(WorkResult::People(Err(error()))),
            Self::Open { channel, .. } => {
                Some(WorkResult::Opened { channel: channel.clone(), result: Err(error()) })
            }
            Self::OpenWildcard => Some(WorkResult::WildcardOpened(Err(error()))),
            Self::Snapshot { room, upto } => Some(WorkResult::Snapshot {
                channel: Channel::Room(*room),
                upto: *upto,
                result: Err(error()),
            }),
            Self::Replay { channel, request } => {
                let replay = FinishedReplay { request: *request, outcome: ReplayOutcome::Unreadable };
                Some(WorkResult::Replayed { channel: channel.clone(), replay })
            }
            Self::CatchUp(_) => Some(WorkResult::CatchUp(CatchUpReport::Panicked)),
            Self::Confirm(question) => {
                let unanswered = question.iter().map(|(channel, _)| (channel.clone(), None));
                Some(WorkResult::Confirmed(unanswered.collect()))
            }
            // The subscriber that waits is dropped with it: its session answers that the channel can't be followed now.
            Self::StreamEnd { .. } | Self::PublishLogEnd(_) => None,
        }
    }

    /// Starts it in a task of its own, which sends the result to `done`.
    pub(super) fn start(self, shard: Shard, context: ShardContext, done: mpsc::Sender<WorkResult>) {
        let (name, failed) = (self.name(), self.result_of_panic());
        let work = self.run(shard, context, done.clone());
        tokio::spawn(async move {
            if let Some(result) = catch_panic(name, work, failed).await {
                // The task may have stopped meanwhile.
                let _ = done.send(result).await;
            }
        });
    }

    async fn run(
        self,
        shard: Shard,
        context: ShardContext,
        done: mpsc::Sender<WorkResult>,
    ) -> Option<WorkResult> {
        Some(match self {
            Self::People => WorkResult::People(people::open(&context, shard).await),
            Self::Open { channel, is_covered_by_wildcard } => {
                let result = open::open_channel(&context, shard, &channel, is_covered_by_wildcard).await;
                WorkResult::Opened { channel, result }
            }
            Self::OpenWildcard => WorkResult::WildcardOpened(interest::open(&context, shard).await),
            Self::Snapshot { room, upto } => {
                let result = snapshot::read_participants_later(&context, room, upto).await;
                WorkResult::Snapshot { channel: Channel::Room(room), upto, result }
            }
            Self::StreamEnd { channel, request } => {
                let result = log::state(&context.jetstream, shard).await;
                WorkResult::StreamEnd { channel, request, result }
            }
            Self::Replay { channel, request } => {
                let outcome = replay::read_with_retries(&context, &channel, request).await;
                WorkResult::Replayed { channel, replay: FinishedReplay { request, outcome } }
            }
            Self::CatchUp(range) => {
                catch_up::read_range(&context, shard, range, &done).await;
                return None;
            }
            Self::PublishLogEnd(log_end) => {
                let payload = serde_json::to_vec(&log_end).ok()?;
                if let Err(error) = context.client.publish(subject::log_end(shard), payload.into()).await {
                    tracing::warn!(%error, %shard, "the log has lost its end, and the persister could not be notified");
                }
                return None;
            }
            Self::Confirm(question) => WorkResult::Confirmed(confirm::confirm(&context.api, question).await),
        })
    }
}

/// Runs work and returns its result, or `failed` if it panics.
async fn catch_panic(
    name: &'static str,
    work: impl Future<Output = Option<WorkResult>>,
    failed: Option<WorkResult>,
) -> Option<WorkResult> {
    // Unwind safe: nothing of the work is used after a panic.
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
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
        let range = catch_up::CatchUpRange { after: 1, highest_received: 1, epoch: None };
        let channel = Channel::Room(RoomId(1));
        let request = ReplayRequest { since: 1, upto: 2, epoch: 1, start_seq: 2, free_space: (1, 1) };
        let all = [
            Work::People,
            Work::Open { channel: channel.clone(), is_covered_by_wildcard: false },
            Work::OpenWildcard,
            Work::Snapshot { room: RoomId(1), upto: 1 },
            Work::Replay { channel, request },
            Work::CatchUp(range),
            Work::Confirm(vec![(Channel::Room(RoomId(1)), vec![])]),
        ];
        for work in all {
            let result =
                catch_panic(work.name(), async { panic!("in a test") }, work.result_of_panic()).await;
            assert!(result.is_some(), "{}", work.name());
        }
    }
}
