//! Opens a channel: subscribes, asks where the stream ends (the barrier), then reads who is present.
//!
//! ```text
//!                     subscribe, barrier, snapshot            30 s without subscribers
//! (no entry) ------> Opening ----------------------> Open -----------------------> (no entry)
//!    ^  first         |  ^  |                          |
//!    |  subscriber    |  +--+ the barrier is older     | the log was made anew: every socket is closed
//!    |                |       than what may be lost    v
//!    +----------------+                             (no entry)
//!      it failed: sessions answer 503
//! ```
//!
//! A subscriber of an open channel is admitted at once where the ring has all that it lacks. Where it claims to have
//! more than this node, the stream's end is asked first; where the ring lacks something, the log is read:
//!
//! ```text
//! request --> admitted (recovered, or new)
//!    |  \----> waiting for a replay --> admitted (recovered, or not)
//!    |             ^           |  ^
//!    |             |           +--+ the ring has moved on: another read
//!    +--> waiting for the stream's end --> admitted (not recovered: it has another log)
//! ```

use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use log::StreamState;
use protocol::{id::Shard, subject::Channel};
use tokio::{sync::oneshot, time::timeout};

use super::{
    BUFFERED_MAX, ChannelEntry, MessageStream, Opening, ShardContext, ShardTask, interest::RoomInterest,
    snapshot, work::Work,
};
use crate::shard::{channel::ChannelState, subscribe::SubscribeRequest};

/// How long a room's first subscriber waits for the list of participants.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// A subscription, where the stream ended after it stood, and who was in the room then.
pub(super) struct OpenedChannel {
    /// None where its room is received with all others.
    pub(super) messages: Option<MessageStream>,
    pub(super) state: StreamState,
    pub(super) participants: anyhow::Result<Vec<snapshot::SnapshotEntry>>,
}

/// Subscribes, and asks.
pub(super) async fn open_channel(
    context: &ShardContext,
    shard: Shard,
    channel: &Channel,
    is_covered_by_wildcard: bool,
) -> anyhow::Result<OpenedChannel> {
    let messages: Option<MessageStream> = if is_covered_by_wildcard {
        None
    } else {
        Some(context.subscribe(shard, channel.live_filter(context.shards)).await?)
    };
    let state = log::state(&context.jetstream, shard).await.context("the barrier")?;
    let people = match *channel {
        Channel::Room(room) => {
            let taken =
                timeout(SNAPSHOT_TIMEOUT, snapshot::read_participants(context, room, state.last)).await;
            taken.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time")))
        }
        _ => Ok(vec![]),
    };
    Ok(OpenedChannel { messages, state, participants: people })
}

impl ShardTask {
    /// Subscribes and asks, beside the task.
    pub(super) fn start_opening(&mut self, channel: Channel) {
        let is_heard = self.room_interest == RoomInterest::Wildcard && matches!(channel, Channel::Room(_));
        self.new_work.push(Work::Open { channel, is_covered_by_wildcard: is_heard });
    }

    /// What must hold: a channel begins no earlier than what is sure, and in the same log, with nothing lost
    /// since. Else its beginning is asked for again.
    pub(super) fn finish_opening(&mut self, channel: &Channel, result: anyhow::Result<OpenedChannel>) {
        let opened = match result {
            Ok(opened) => opened,
            Err(error) => {
                // Their `done` is dropped: each session answers that it could not be.
                tracing::warn!(%error, %channel, "a channel could not be followed");
                self.channels.remove(channel);
                return;
            }
        };
        if self.catch_ups.is_running() {
            // Some of what is read was reported before the channel was there.
            return self.catch_ups.keep_opened(channel.clone(), opened);
        }
        let Some(ChannelEntry::Opening(opening)) = self.channels.get_mut(channel) else { return };
        let OpenedChannel { messages, state, participants: people } = opened;
        let is_past = self.position.safe_seq() > Some(state.last)
            || self.position.epoch().is_some_and(|epoch| epoch != state.epoch);
        if is_past || opening.may_lack_events {
            *opening = Opening { requests: std::mem::take(&mut opening.requests), ..Opening::default() };
            return self.start_opening(channel.clone());
        }
        let Opening { requests: waiting, buffered: gate, .. } = std::mem::take(opening);
        let (interest, ended) = oneshot::channel();
        let is_wide = self.room_interest == RoomInterest::Wildcard && matches!(channel, Channel::Room(_));
        // Where all rooms are received together by now, one of its own would repeat what is not stored.
        let is_doubled = is_wide && messages.is_some();
        if let Some(messages) = messages.filter(|_| !is_wide) {
            self.inbox.add_channels(messages.take_until(ended));
        }
        self.set_first_position(state);
        let channel_state = ChannelState::new(
            channel.clone(),
            self.shard.index(),
            state.last,
            state.epoch,
            interest,
            self.metrics.clone(),
        );
        self.channels.insert(channel.clone(), ChannelEntry::Open(Box::new(channel_state)));
        self.merge_snapshot(channel, state.last, people);
        if is_doubled || gate.len() == BUFFERED_MAX {
            self.catch_up_open_channels("opened", Some(state.last));
        } else {
            // What comes behind a gap waits for the catch-up as that does.
            let _is_complete = gate.iter().all(|message| self.receive_channel_message(message));
        }
        for request in waiting {
            // One that came after the barrier was asked may have later events than the barrier knows of.
            self.admit_or_ask_stream_end(channel, request);
        }
    }

    /// Lets a subscriber in where all it needs is known; else asks first how far the stream is.
    pub(super) fn admit_or_ask_stream_end(&mut self, channel: &Channel, request: SubscribeRequest) {
        let Some(channel_state) = self.open_channel_mut(channel) else { return };
        match request.since {
            None => channel_state.admit(request, true),
            Some(since) if since <= channel_state.last_seq => self.admit_or_replay(channel, request),
            Some(_) => {
                channel_state.restart_idle_timer();
                self.new_work.push(Work::StreamEnd { channel: channel.clone(), request });
            }
        }
    }

    /// A subscriber with the stream's present end: one that claims to have more has another log.
    pub(super) fn admit_at_stream_end(
        &mut self,
        channel: &Channel,
        request: SubscribeRequest,
        result: anyhow::Result<StreamState>,
    ) {
        let state = match result {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!(%error, %channel, "the barrier failed");
                return;
            }
        };
        let Some(channel_state) = self.open_channel_mut(channel) else { return };
        match request.since {
            None => channel_state.admit(request, true),
            Some(since) if since > state.last => channel_state.admit(request, false),
            Some(_) => self.admit_or_replay(channel, request),
        }
    }

    /// A subscriber whose `since` is of this log, if its epoch is.
    fn admit_or_replay(&mut self, channel: &Channel, request: SubscribeRequest) {
        let Some(channel_state) = self.open_channel_mut(channel) else { return };
        let same_epoch = request.epoch.is_none_or(|epoch| epoch == channel_state.epoch);
        if !same_epoch {
            channel_state.admit(request, false);
        } else if request.complete_up_to().is_some_and(|reach| reach >= channel_state.ring.base()) {
            channel_state.admit(request, true);
        } else if request.complete_up_to().is_some_and(|reach| reach < channel_state.ring.unservable_below())
        {
            channel_state.admit(request, false);
        } else {
            channel_state.waiting_for_replay.push(request);
            self.request_replay(channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::id::RoomId;

    use super::*;
    use crate::{encode::PushFormat, outbox::Outbox, shard::bench};

    #[tokio::test]
    async fn resume_from_after_the_barrier_of_an_opening_waits_for_a_barrier_of_its_own() {
        let (mut task, _loss_sources) = bench::shard_task().await;
        let channel = Channel::Room(RoomId(1));
        let outbox = Arc::new(Outbox::new(1_000, PushFormat::Native));
        let request = bench::resume_request(7, &outbox);
        let opening = Opening { requests: vec![request], ..Opening::default() };
        task.channels.insert(channel.clone(), ChannelEntry::Opening(opening));
        task.new_work.clear();
        let opened =
            OpenedChannel { messages: None, state: bench::stream_state(1, 5, 1), participants: Ok(vec![]) };
        task.finish_opening(&channel, Ok(opened));
        assert!(outbox.take_frames().is_empty(), "event 7 may be in the log by now");
        let Some(Work::StreamEnd { request, .. }) = task.new_work.pop() else { panic!("nobody asks") };
        task.admit_at_stream_end(&channel, request, Ok(bench::stream_state(1, 7, 1)));
        let answers: Vec<_> = outbox.take_frames();
        assert_eq!(answers, ["true"], "it lacks nothing");
    }
}
