//! Catches up from the log with events whose live copies may have been lost (clients see it as `heal`).
//!
//! One ordered read of the shard serves all its channels. It begins at the position up to which everything was received
//! for sure, and no newer event is pushed before it is over. Events that were received already are skipped. An event
//! that a channel lacks, though it has pushed later ones, can't be pushed in order any more: the sockets that should
//! have got it are closed, and resume.

use std::time::Duration;

use anyhow::bail;
use log::{LogEnd, LogReader, StoredEvent, StreamState};
use protocol::{id::Shard, subject::Channel};
use tokio::sync::mpsc;

use super::{ShardContext, open::OpenedChannel, work::WorkResult};

/// Events reported at once.
const REPORT_EVENTS_MAX: usize = 256;
/// Pause between attempts while the log can't be read.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Panics after which a catch-up is not begun again: the process ends, and is started anew.
const PANICS_MAX: u32 = 5;

/// The events that a catch-up reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CatchUpRange {
    /// Everything after this.
    pub(super) after: u64,
    /// The last event that was received before the catch-up: a log that ends earlier has lost it.
    pub(super) highest_received: u64,
    /// The epoch of the log, if it is known.
    pub(super) epoch: Option<u64>,
}

/// A catch-up that is under way.
#[derive(Debug)]
struct CatchUp {
    range: CatchUpRange,
    panics: u32,
}

/// The catch-up under way, and the causes and channels that wait for its end.
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
    /// Sequence after which to catch up once more, because another cause came up during the catch-up. The safe position
    /// of that time counts if it is lower.
    next_after: Option<u64>,
    /// Channels whose barrier was received during the catch-up.
    opened: Vec<(Channel, OpenedChannel)>,
}

/// What to do once a catch-up is over.
pub(super) enum AfterCatchUp {
    /// Catch up with everything after this event, or after the safe position if that is lower.
    CatchUpAgain(u64),
    /// Open the channels whose barrier was received meanwhile.
    Open(Vec<(Channel, OpenedChannel)>),
}

impl CatchUps {
    pub(super) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The range that the running catch-up reads; `None` while none runs.
    pub(super) fn range(&self) -> Option<CatchUpRange> {
        self.running.as_ref().map(|running| running.range)
    }

    /// Notes that another catch-up has to follow the one that runs: with everything after an event, or after the safe
    /// position of that time.
    pub(super) fn note_another(&mut self, after: Option<u64>) {
        let after = after.unwrap_or(u64::MAX);
        self.next_after = Some(self.next_after.map_or(after, |again| again.min(after)));
    }

    /// Notes that the log was made anew: the next catch-up begins from the safe position.
    pub(super) fn forget_positions(&mut self) {
        self.next_after = self.next_after.map(|_| u64::MAX);
    }

    pub(super) fn begin(&mut self, range: CatchUpRange) {
        self.running = Some(CatchUp { range, panics: 0 });
    }

    /// Counts a panic of the catch-up. Returns the range to read again.
    ///
    /// # Errors
    /// If it has panicked [`PANICS_MAX`] times.
    pub(super) fn restart_after_panic(&mut self, shard: Shard) -> anyhow::Result<Option<CatchUpRange>> {
        let Some(running) = &mut self.running else { return Ok(None) };
        running.panics += 1;
        if running.panics == PANICS_MAX {
            bail!("healing shard {shard} has panicked {PANICS_MAX} times");
        }
        Ok(Some(running.range))
    }

    /// Keeps a channel whose barrier was received until the catch-up is over.
    pub(super) fn keep_opened(&mut self, channel: Channel, opened: OpenedChannel) {
        self.opened.push((channel, opened));
    }

    pub(super) fn finish(&mut self) -> AfterCatchUp {
        self.running = None;
        match self.next_after.take() {
            // The channels that were being opened at the cause were marked then.
            Some(after) => AfterCatchUp::CatchUpAgain(after),
            None => AfterCatchUp::Open(std::mem::take(&mut self.opened)),
        }
    }
}

/// A part of a catch-up's result.
#[derive(Debug)]
pub(super) enum CatchUpReport {
    /// Events that were in the log.
    Events(Vec<StoredEvent>),
    /// Everything up to here was reported.
    CompleteUpTo(u64),
    /// The stream has another log, or no longer has all events that may have been lost.
    NotInLog(StreamState),
    /// The catch-up's task panicked.
    Panicked,
}

impl CatchUpRange {
    /// Whether a log in this state has all of these events.
    pub(super) fn is_covered_by(&self, state: StreamState) -> bool {
        let same_epoch = self.epoch.is_none_or(|epoch| epoch == state.epoch);
        same_epoch && state.first <= self.after + 1 && state.last >= self.highest_received
    }

    /// The last event that this node has received, if the log has lost it. The persister may not have seen that.
    pub(super) fn lost_end(&self, state: StreamState) -> Option<LogEnd> {
        let is_lost = self.epoch == Some(state.epoch) && self.highest_received > state.last;
        is_lost.then_some(LogEnd { epoch: state.epoch, seq: self.highest_received })
    }
}

/// Reads a range and reports its events. While the log can't be read, retries without limit.
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

/// Reads the rest of a range. Events that were reported are not read again.
async fn continue_range(
    context: &ShardContext,
    shard: Shard,
    range: &mut CatchUpRange,
    done: &mpsc::Sender<WorkResult>,
) -> anyhow::Result<()> {
    let state = log::state(&context.jetstream, shard).await?;
    // Sending fails only once the task has stopped.
    let send = |report| async { done.send(WorkResult::CatchUp(report)).await.is_ok() };
    if !range.is_covered_by(state) {
        send(CatchUpReport::NotInLog(state)).await;
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
            // The consumer's replica lags, or the events were trimmed: the leader knows.
            bail!("the log ends at {} for its reader, and at {} for its leader", range.after, state.last);
        };
        if !send(CatchUpReport::Events(batch)).await {
            return Ok(());
        }
        range.after = last;
    }
    send(CatchUpReport::CompleteUpTo(state.last)).await;
    Ok(())
}

#[cfg(test)]
mod tests;
