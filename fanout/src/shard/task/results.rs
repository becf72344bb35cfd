//! Takes the results of a shard's slow work.

use futures_util::StreamExt as _;
use log::{StoredEvent, StreamState};
use protocol::{
    id::UserId,
    subject::{self, Channel},
};
use tokio::sync::oneshot;

use super::ShardTask;
use crate::{
    encode::event::LiveEvent,
    shard::{
        catch_up::{AfterCatchUp, CatchUpReport},
        channels::OpeningStep,
        confirm::ChannelConfirmation,
        inbox::MessageStream,
        open::OpenedChannel,
        people::OpenedPeople,
        replay::FinishedReplay,
        snapshot::SnapshotEntry,
        subscribe::SubscribeRequest,
        work::{Work, WorkResult},
    },
};

impl ShardTask {
    /// Takes the result of a piece of work.
    ///
    /// # Errors
    /// If the shard's events can't be received any more.
    pub(super) fn take_work_result(&mut self, result: WorkResult) -> anyhow::Result<()> {
        match result {
            WorkResult::People(result) => self.finish_opening_people(result),
            WorkResult::Opened { channel, result } => self.finish_opening(&channel, result),
            WorkResult::WildcardOpened(result) => self.finish_opening_wildcard(result),
            WorkResult::Snapshot { channel, upto, result } => self.merge_snapshot(&channel, upto, result),
            WorkResult::StreamEnd { channel, request, result } => {
                self.admit_at_stream_end(&channel, request, result);
            }
            WorkResult::Replayed { channel, replay } => self.finish_replay(&channel, replay),
            WorkResult::Confirmed(answers) => {
                for (channel, answer) in answers {
                    self.take_confirmation(&channel, answer);
                }
            }
            WorkResult::CatchUp(report) => return self.take_catch_up_report(report),
        }
        Ok(())
    }

    /// Begins to push the events of the shard's people, or subscribes again.
    fn finish_opening_people(&mut self, result: anyhow::Result<OpenedPeople>) {
        let OpenedPeople { messages, elections, state } = match result {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, shard = %self.shard, "the shard's people could not be subscribed to, trying again");
                return self.new_work.push(Work::People);
            }
        };
        if !self.people.begin(state.last) {
            return self.new_work.push(Work::People);
        }
        for messages in messages {
            self.inbox.add_people(messages);
        }
        self.loss_signals.watch_elections(elections);
        self.context.people_ready.mark_ready(self.shard);
        // The first channels were opened before elections were subscribed to.
        let is_late = self.position.safe_seq().is_some();
        self.set_first_position(state);
        if is_late {
            self.catch_up_open_channels("opened", None);
        }
    }

    /// Opens a channel once its barrier is known, and admits its subscribers. During a catch-up this waits: some of
    /// what the catch-up reads was reported before the channel was open.
    pub(in crate::shard) fn finish_opening(
        &mut self,
        channel: &Channel,
        result: anyhow::Result<OpenedChannel>,
    ) {
        let opened = match result {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, %channel, "a channel could not be opened");
                return self.channels.remove(channel);
            }
        };
        if self.catch_ups.is_running() {
            return self.catch_ups.keep_opened(channel.clone(), opened);
        }
        let OpenedChannel { messages, barrier, participants } = opened;
        let is_stale = self.position.safe_seq() > Some(barrier.last)
            || self.position.epoch().is_some_and(|epoch| epoch != barrier.epoch);
        let (own_subscription, ended) = oneshot::channel();
        let queue = match self.channels.finish_opening(channel, barrier, is_stale, own_subscription) {
            OpeningStep::Ignore => return,
            OpeningStep::OpenAgain => return self.start_opening(channel.clone()),
            OpeningStep::Opened(queue) => queue,
        };
        let is_covered = self.room_interest.covers(channel);
        // If all rooms are received together by now, a subscription of its own would repeat events that are not stored.
        let has_two_subscriptions = is_covered && messages.is_some();
        if let Some(messages) = messages.filter(|_| !is_covered) {
            self.inbox.add_channels(messages.take_until(ended));
        }
        self.set_first_position(barrier);
        self.merge_snapshot(channel, barrier.last, participants);
        if has_two_subscriptions || queue.is_full() {
            self.catch_up_open_channels("opened", Some(barrier.last));
        } else {
            // The messages after a gap are caught up as the gap is.
            let _is_complete = queue.messages.iter().all(|message| self.receive_channel_message(message));
        }
        for request in queue.requests {
            // A request that came after the barrier was asked for may have later events than the barrier knows of.
            self.admit_or_ask_stream_end(channel, request);
        }
    }

    /// Switches to the subscription to all rooms, and catches up with events between the two kinds of subscriptions.
    pub(in crate::shard) fn finish_opening_wildcard(&mut self, result: anyhow::Result<MessageStream>) {
        let Some(messages) = self.room_interest.finish_opening_wildcard(result, self.shard) else { return };
        tracing::info!(shard = %self.shard, rooms = self.channels.len(), "all rooms are received by one subscription now");
        self.inbox.add_channels(messages);
        self.channels.end_own_subscriptions_of_rooms();
        self.start_catch_up("widened", None);
    }

    /// Merges who was in a room up to an event, or reads it again.
    fn merge_snapshot(&mut self, channel: &Channel, upto: u64, result: anyhow::Result<Vec<SnapshotEntry>>) {
        let Some(channel_state) = self.channels.get_mut(channel) else { return };
        if let (Some(upto), Channel::Room(room)) = (channel_state.merge_snapshot(upto, result), channel) {
            self.new_work.push(Work::Snapshot { room: *room, upto });
        }
    }

    /// Admits a subscriber to an open channel, or begins what has to be done before that.
    pub(in crate::shard) fn admit_or_ask_stream_end(&mut self, channel: &Channel, request: SubscribeRequest) {
        let Some(channel_state) = self.channels.get_mut(channel) else { return };
        let step = channel_state.admit_or_ask_stream_end(request);
        self.take_admission_step(channel, step);
    }

    /// Admits a subscriber that claimed to have later events than this node, now that the stream's end is known.
    pub(in crate::shard) fn admit_at_stream_end(
        &mut self,
        channel: &Channel,
        request: SubscribeRequest,
        result: anyhow::Result<StreamState>,
    ) {
        let state = match result {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!(%error, %channel, "the end of the stream could not be read: the subscriber is refused");
                return;
            }
        };
        let Some(channel_state) = self.channels.get_mut(channel) else { return };
        let step = channel_state.admit_at_stream_end(request, state.last);
        self.take_admission_step(channel, step);
    }

    /// Takes the result of a read of the log, and begins the next ones.
    pub(in crate::shard) fn finish_replay(&mut self, channel: &Channel, replay: FinishedReplay) {
        self.replays.finish(&replay.outcome);
        self.start_replays();
        if let Some(channel_state) = self.channels.get_mut(channel) {
            channel_state.finish_replay(replay);
        }
        self.request_replay(channel);
    }

    /// Takes api's answer about a channel. `None` if api has not answered.
    pub(in crate::shard) fn take_confirmation(
        &mut self,
        channel: &Channel,
        result: Option<ChannelConfirmation>,
    ) {
        let Some(channel_state) = self.channels.get_mut(channel) else { return };
        channel_state.access.finish_confirmation(result.as_ref().map(|confirmed| confirmed.access));
        if let Some(confirmation) = result {
            self.pending_evictions.replace(channel, confirmation);
            self.pending_evictions.apply_due(&mut self.channels);
        }
    }

    /// Takes a part of a catch-up's result.
    ///
    /// # Errors
    /// If the catch-up panics again and again.
    pub(in crate::shard) fn take_catch_up_report(&mut self, report: CatchUpReport) -> anyhow::Result<()> {
        let Some(range) = self.catch_ups.range() else { return Ok(()) };
        match report {
            CatchUpReport::Events(events) => {
                for stored in &events {
                    self.deliver_stored(stored);
                    self.pending_evictions.apply_due(&mut self.channels);
                }
            }
            CatchUpReport::CompleteUpTo(last) => {
                self.position.note_caught_up_to(last);
                self.channels.mark_complete_up_to(last);
                self.people.note_caught_up_to(last);
                self.finish_catch_up();
            }
            CatchUpReport::NotInLog(state) => {
                self.new_work.extend(range.lost_end(state).map(Work::PublishLogEnd));
                self.restart_from(state);
                self.finish_catch_up();
            }
            CatchUpReport::Panicked => {
                let range = self.catch_ups.restart_after_panic(self.shard)?;
                self.new_work.extend(range.map(Work::CatchUp));
            }
        }
        Ok(())
    }

    /// Delivers an event that was read from the log.
    fn deliver_stored(&mut self, stored: &StoredEvent) {
        let Ok(parsed) = subject::parse(&stored.subject) else { return };
        let StoredEvent { seq, headers, payload, .. } = stored;
        let event = LiveEvent { name: parsed.event, seq: *seq, headers: Some(headers), payload };
        self.people.push_stored(&parsed.channel, event, &self.context.sockets, &self.channels);
        self.channels.deliver(&parsed.channel, event);
    }

    fn finish_catch_up(&mut self) {
        match self.catch_ups.finish() {
            AfterCatchUp::CatchUpAgain(after) => self.catch_up_open_channels("again", Some(after)),
            AfterCatchUp::Open(channels) => {
                for (channel, opened) in channels {
                    self.finish_opening(&channel, Ok(opened));
                }
            }
        }
    }

    /// Begins anew with a log that lacks events which this node may have missed. Closes every socket of the shard, also
    /// sockets that follow no channel of it but belong to one of its people. Each client that comes back begins with
    /// the log as it is now.
    fn restart_from(&mut self, state: StreamState) {
        let position = self.context.positions.frame();
        self.channels.close_open_channels(&position);
        let (shard, shards) = (self.shard, self.context.shards);
        let is_of_shard = |user: &UserId| Channel::User(user.clone()).shard(shards) == shard;
        for outbox in self.context.sockets.of_people(is_of_shard) {
            outbox.close_for_resume(&position);
        }
        // Messages that wait to be received may be of the log that is gone.
        self.inbox.discard();
        self.mark_openings_incomplete();
        self.position.reset(state.epoch, state.last);
        self.channels.reset_received(state.last);
        self.people.reset(state.last);
        self.catch_ups.forget_positions();
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
        task.channels.subscribe(&channel, request);
        let opened =
            OpenedChannel { messages: None, barrier: bench::stream_state(1, 5, 1), participants: Ok(vec![]) };
        task.finish_opening(&channel, Ok(opened));
        assert!(outbox.take_frames().is_empty(), "event 7 may be in the log by now");
        let Some(Work::StreamEnd { request, .. }) = task.new_work.pop() else { panic!("nobody asks") };
        task.admit_at_stream_end(&channel, request, Ok(bench::stream_state(1, 7, 1)));
        let answers: Vec<_> = outbox.take_frames();
        assert_eq!(answers, ["true"], "it lacks nothing");
    }
}
