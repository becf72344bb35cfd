//! Catches up from the log with events whose live copies may have been lost (clients see it as `heal`).
//!
//! One ordered read of the shard serves all its channels. It begins at the position up to which everything was received
//! for sure, and no newer event is pushed before it is over. Events that were received already are skipped. An event
//! that a channel lacks, though it has pushed later ones, can't be pushed in order any more: the sockets that should
//! have got it are closed, and resume.

use std::time::Duration;

use anyhow::bail;
use log::{LogEnd, LogReader, StoredEvent, StreamState};
use protocol::{
    id::{Shard, UserId},
    subject::{self, Channel},
};
use service::metric_names as names;
use tokio::sync::mpsc;

use super::{ChannelEntry, ShardContext, ShardTask, WorkResult, open::OpenedChannel, work::Work};
use crate::encode::event::LiveEvent;

/// Events reported at once.
const REPORT_EVENTS_MAX: usize = 256;
/// Between tries while the log can't be read.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Panics after which a catch-up is not begun again: its process ends, and another one begins from nothing.
const PANICS_MAX: u32 = 5;

/// What a catch-up reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CatchUpRange {
    /// Everything after this.
    pub(super) after: u64,
    /// The last event that was received before: a log that ends earlier has lost it.
    pub(super) highest_received: u64,
    /// The epoch that is followed.
    pub(super) epoch: Option<u64>,
}

/// A catch-up that is under way.
#[derive(Debug)]
struct CatchUp {
    range: CatchUpRange,
    panics: u32,
}

/// The catch-up under way, and what waits for its end.
///
/// ```text
///           begin                      finish
/// (none) ----------> running ----------------------------> (none)
///                    |     ^                                  |
///                    +-----+                                  | another cause came up meanwhile: begin
///             begin: noted for later                          v
///                                                          running
/// ```
#[derive(Default)]
pub(super) struct CatchUps {
    running: Option<CatchUp>,
    /// Sequence after which to catch up once more, because another cause came up during the catch-up. The position that
    /// is sure by then counts where it is lower.
    next_after: Option<u64>,
    /// Channels that were opened during the catch-up.
    opened: Vec<(Channel, OpenedChannel)>,
}

/// What to do once a catch-up is over.
enum AfterCatchUp {
    /// Catch up with what came after this event, or after the sure position.
    CatchUpAgain(u64),
    /// Go on with the channels that were opened meanwhile.
    Open(Vec<(Channel, OpenedChannel)>),
}

impl CatchUps {
    pub(super) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Notes that another catch-up has to follow the one that runs: with everything after an event, or after the
    /// position that is sure by then.
    fn note_another(&mut self, after: Option<u64>) {
        let after = after.unwrap_or(u64::MAX);
        self.next_after = Some(self.next_after.map_or(after, |again| again.min(after)));
    }

    /// Notes that the log was made anew: a catch-up that follows begins from the sure position.
    fn forget_positions(&mut self) {
        self.next_after = self.next_after.map(|_| u64::MAX);
    }

    fn begin(&mut self, range: CatchUpRange) {
        self.running = Some(CatchUp { range, panics: 0 });
    }

    /// Keeps a channel until the catch-up is over.
    pub(super) fn keep_opened(&mut self, channel: Channel, opened: OpenedChannel) {
        self.opened.push((channel, opened));
    }

    fn finish(&mut self) -> AfterCatchUp {
        self.running = None;
        match self.next_after.take() {
            // The channels that were being opened when the cause came up were marked then.
            Some(after) => AfterCatchUp::CatchUpAgain(after),
            None => AfterCatchUp::Open(std::mem::take(&mut self.opened)),
        }
    }
}

/// How a catch-up goes.
#[derive(Debug)]
pub(super) enum CatchUpReport {
    /// These were in the log.
    Events(Vec<StoredEvent>),
    /// Everything up to here was reported.
    CompleteUpTo(u64),
    /// It is another log, or it has no longer all that may have been lost.
    NotInLog(StreamState),
    /// Nothing more comes of it.
    Panicked,
}

impl CatchUpRange {
    /// Whether a log that stands so has all of it.
    pub(super) fn is_covered_by(&self, state: StreamState) -> bool {
        let same_epoch = self.epoch.is_none_or(|epoch| epoch == state.epoch);
        same_epoch && state.first <= self.after + 1 && state.last >= self.highest_received
    }
}

impl ShardTask {
    /// Something may have been lost since the surely received position, or since `after`; of the channels
    /// that are being opened too.
    pub(super) fn start_catch_up(&mut self, cause: &'static str, after: Option<u64>) {
        self.mark_openings_incomplete();
        self.catch_up_open_channels(cause, after);
    }

    /// What is being opened may lack what came meanwhile.
    fn mark_openings_incomplete(&mut self) {
        for entry in self.channels.values_mut() {
            if let ChannelEntry::Opening(opening) = entry {
                opening.may_lack_events = true;
            }
        }
        self.people.note_possible_loss();
    }

    /// The same where nothing can be lost of the channels that are being opened.
    pub(super) fn catch_up_open_channels(&mut self, cause: &'static str, after: Option<u64>) {
        self.position.discard_pending();
        let Some(sure) = self.position.safe_seq() else { return };
        metrics::counter!(names::HEALS_TOTAL, "cause" => cause).increment(1);
        if self.catch_ups.is_running() {
            return self.catch_ups.note_another(after);
        }
        let after = after.map_or(sure, |after| after.min(sure));
        let range = CatchUpRange {
            after,
            highest_received: self.highest_received_seq(),
            epoch: self.position.epoch(),
        };
        tracing::info!(shard = %self.shard, cause, after, highest = range.highest_received, "something may have been lost");
        self.catch_ups.begin(range);
        self.new_work.push(Work::CatchUp(range));
    }

    /// # Errors
    /// Where catch-up panics again and again.
    pub(super) fn take_catch_up_report(&mut self, report: CatchUpReport) -> anyhow::Result<()> {
        let Some(running) = &mut self.catch_ups.running else { return Ok(()) };
        match report {
            CatchUpReport::Events(events) => {
                for stored in &events {
                    self.deliver_stored(stored);
                    self.evict_revoked();
                }
            }
            CatchUpReport::CompleteUpTo(last) => {
                self.position.note_caught_up_to(last);
                self.received.mark_complete_up_to(last);
                self.people.note_caught_up_to(last);
                self.finish_catch_up();
            }
            CatchUpReport::NotInLog(state) => {
                let CatchUpRange { highest_received: highest, epoch, .. } = running.range;
                if epoch == Some(state.epoch) && highest > state.last {
                    // The persister may not have seen it.
                    self.new_work.push(Work::PublishLogEnd(LogEnd { epoch: state.epoch, seq: highest }));
                }
                self.restart_from(state);
                self.finish_catch_up();
            }
            CatchUpReport::Panicked => {
                running.panics += 1;
                if running.panics == PANICS_MAX {
                    bail!("healing shard {} has panicked {PANICS_MAX} times", self.shard);
                }
                self.new_work.push(Work::CatchUp(running.range));
            }
        }
        Ok(())
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

    /// What the node may have missed is gone, so every socket of the shard is closed, those too that are there
    /// for their person alone. Whoever comes next begins with the log as it is now.
    fn restart_from(&mut self, state: StreamState) {
        let position = self.context.positions.frame();
        for entry in self.channels.values() {
            if let ChannelEntry::Open(channel_state) = entry {
                channel_state.outboxes().for_each(|outbox| outbox.close_for_resume(&position));
            }
        }
        let (shard, shards) = (self.shard, self.context.shards);
        let lives_here = |user: &UserId| Channel::User(user.clone()).shard(shards) == shard;
        for outbox in self.context.sockets.of_people(lives_here) {
            outbox.close_for_resume(&position);
        }
        // Those whose channels are being opened are let in by what the log says then.
        self.channels.retain(|_, entry| matches!(entry, ChannelEntry::Opening(_)));
        // What waits to be received may be of the log that is gone.
        self.inbox.discard();
        self.mark_openings_incomplete();
        self.position.reset(state.epoch, state.last);
        self.received.reset(state.last);
        self.people.reset(state.last);
        self.catch_ups.forget_positions();
    }

    /// The last event that was received.
    fn highest_received_seq(&self) -> u64 {
        let open_channels = self.channels.values().filter_map(|entry| match entry {
            ChannelEntry::Open(channel_state) => Some(channel_state.last_seq),
            ChannelEntry::Opening(_) => None,
        });
        open_channels.chain([self.people.last_seq()]).max().unwrap_or(0)
    }

    /// An event as it is in the log.
    fn deliver_stored(&mut self, stored: &StoredEvent) {
        let Ok(parsed) = subject::parse(&stored.subject) else { return };
        let StoredEvent { seq, headers, payload, .. } = stored;
        if let Channel::User(user) = &parsed.channel {
            self.push_to_person(user, &parsed.channel, parsed.event, *seq, payload);
        }
        let event = LiveEvent { name: parsed.event, seq: *seq, headers: Some(headers), payload };
        self.deliver(&parsed.channel, event);
    }
}

/// Reads a range and reports what it has, however long the log can't be read.
pub(super) async fn read_range(
    context: &ShardContext,
    shard: Shard,
    mut range: CatchUpRange,
    done: &mpsc::Sender<WorkResult>,
) {
    while let Err(error) = continue_range(context, shard, &mut range, done).await {
        tracing::warn!(error = format!("{error:#}"), %shard, "healing waits for the log");
        if done.is_closed() {
            return;
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Reads on from where it had come to. What was reported is not read again.
async fn continue_range(
    context: &ShardContext,
    shard: Shard,
    range: &mut CatchUpRange,
    done: &mpsc::Sender<WorkResult>,
) -> anyhow::Result<()> {
    let state = log::state(&context.jetstream, shard).await?;
    // Reports fail only once the task has stopped.
    let report = |healed| async { done.send(WorkResult::CatchUp(healed)).await.is_ok() };
    if !range.is_covered_by(state) {
        report(CatchUpReport::NotInLog(state)).await;
        return Ok(());
    }
    let mut reader = LogReader::open(context.jetstream.clone(), shard, None, range.after + 1);
    while range.after < state.last {
        let mut batch = Vec::new();
        while batch.len() < REPORT_EVENTS_MAX && reader.position() <= state.last {
            let Some(read) = reader.next_stored().await? else { break };
            batch.push(read.stored);
        }
        let Some(last) = batch.last().map(|stored| stored.seq) else {
            // A replica that lags, or what was there was trimmed: its leader knows.
            bail!("the log ends at {} for who reads it, and at {} for its leader", range.after, state.last);
        };
        if !report(CatchUpReport::Events(batch)).await {
            return Ok(());
        }
        range.after = last;
    }
    report(CatchUpReport::CompleteUpTo(state.last)).await;
    Ok(())
}

#[cfg(test)]
mod tests;
