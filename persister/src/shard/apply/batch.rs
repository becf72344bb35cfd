//! Applies batches: those of several shards in one transaction, or one batch in as many as its data needs.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use log::StoredEvent;
use protocol::id::Shard;
use sqlx::PgConnection;
use tokio::time::timeout;

use super::{
    ApplyError, ShardStep, closed_rooms::RecentlyClosedRooms, commit_step, commit_steps, plan::WritePlan,
    rejected_rows,
};
use crate::{
    database::{DatabaseFailure, unix_nanos},
    shard::{
        retries::{self, BatchRetries},
        watermark::{self, WatermarkAdvance},
    },
};

/// How long a small write may take, after an event has timed out, for the time-out to be blamed on the event.
const PROBE_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// The log that events were read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchOrigin {
    pub(crate) shard: Shard,
    pub(crate) epoch: u64,
    /// The last event that the log is known to have.
    pub(crate) log_end_seq: u64,
}

/// A batch of contiguous events of one shard, and how far it is applied.
pub(crate) struct ShardBatch {
    pub(crate) origin: BatchOrigin,
    pub(crate) events: Vec<StoredEvent>,
    /// Bytes of their payloads.
    pub(crate) bytes: usize,
    /// Rooms that were closed before these events; those that they close are added.
    pub(crate) closed_rooms: RecentlyClosedRooms,
    /// Earlier failures of the shard.
    pub(crate) retries: Arc<Mutex<BatchRetries>>,
    /// What was committed, also after an error.
    pub(crate) outcome: ApplyOutcome,
}

/// What happened to a run of events.
#[derive(Debug, Default)]
pub(crate) struct ApplyOutcome {
    /// The watermark after the events that were committed.
    pub(crate) watermark_seq: u64,
    /// Number of events that could not be applied.
    pub(crate) rejected_events: u64,
    /// Number of events left out because their room was closed before them.
    pub(crate) dropped_after_closing: u64,
}

impl ShardBatch {
    /// Whether an earlier batch of the shard failed, and the size of its batches is still limited for it.
    pub(crate) fn is_suspect(&self) -> bool {
        retries::lock(&self.retries).has_failures()
    }
}

impl BatchOrigin {
    /// The step of the watermark from `expected_seq` to this event.
    fn advance_to(&self, last: &StoredEvent, expected_seq: u64) -> WatermarkAdvance {
        WatermarkAdvance {
            shard: self.shard,
            epoch: self.epoch,
            expected_seq,
            new_seq: last.seq,
            stored_at_ns: unix_nanos(last.time),
            log_end_seq: self.log_end_seq,
        }
    }
}

impl ApplyOutcome {
    /// Counts and logs what a committed plan has written, up to event `last_seq`.
    fn note_committed(&mut self, shard: Shard, last_seq: u64, plan: &WritePlan) {
        self.watermark_seq = last_seq;
        self.dropped_after_closing += plan.dropped_after_closing;
        rejected_rows::count_unknown_fields(shard, &plan.partly_applied);
        for event in &plan.rejected {
            self.rejected_events += 1;
            tracing::error!(
                %shard,
                seq = event.seq,
                reason = event.reason,
                "event rejected: recorded in rejected_event"
            );
        }
    }
}

/// Writes batches of different shards in one transaction. Returns the shards whose watermark was not as expected: of
/// these nothing is written.
///
/// # Errors
/// No batch was written, except that after [`DatabaseFailure::Lost`] all or none were.
pub(crate) async fn apply_together(
    session: &mut PgConnection,
    batches: &mut [ShardBatch],
) -> Result<Vec<Shard>, ApplyError> {
    let mut steps = Vec::with_capacity(batches.len());
    for batch in &mut *batches {
        let Some(last) = batch.events.last() else { continue };
        let advance = batch.origin.advance_to(last, batch.outcome.watermark_seq);
        steps.push(ShardStep { advance, plan: WritePlan::build(&batch.events, &mut batch.closed_rooms) });
    }
    let moved = commit_steps(session, &steps).await?;
    let mut unmoved = Vec::new();
    for ShardStep { advance, plan } in &steps {
        let Some(batch) = batches.iter_mut().find(|batch| batch.origin.shard == advance.shard) else {
            continue;
        };
        if moved.contains(&advance.shard) {
            batch.outcome.note_committed(advance.shard, advance.new_seq, plan);
        } else {
            unmoved.push(advance.shard);
        }
    }
    Ok(unmoved)
}

/// Writes a batch by itself.
///
/// A part that Postgres refuses for its data, or without a known cause, is halved until a single event is left. That
/// event is rejected: at once for its data, otherwise only after it has failed alone several times. A single event that
/// times out while Postgres can write other things counts as one without a known cause; for a longer part that times
/// out, the caller must shrink the next batch.
pub(crate) async fn apply_alone(
    session: &mut PgConnection,
    batch: &mut ShardBatch,
) -> Result<(), ApplyError> {
    let ShardBatch { origin, events, closed_rooms, retries, outcome, .. } = batch;
    let mut parts = vec![events.as_slice()];
    while let Some(part) = parts.pop() {
        let Some(last) = part.last() else { continue };
        let advance = origin.advance_to(last, outcome.watermark_seq);
        let mut step = ShardStep { advance, plan: WritePlan::build(part, closed_rooms) };
        let mut result = commit_step(session, &step).await;
        let can_halve = matches!(
            result,
            Err(ApplyError::Database(DatabaseFailure::Data(_) | DatabaseFailure::Unexplained(_)))
        );
        if can_halve && part.len() > 1 {
            let (before, after) = part.split_at(part.len() / 2);
            parts.extend([after, before]);
            continue;
        }
        if let Err(error) = &result
            && part.len() == 1
            && can_reject_now(session, origin.shard, last.seq, error, retries).await
        {
            step.plan = WritePlan::reject_only(last, &error.to_string());
            result = commit_step(session, &step).await;
        }
        result?;
        outcome.note_committed(origin.shard, last.seq, &step.plan);
    }
    Ok(())
}

/// Whether to reject an event that has failed alone.
async fn can_reject_now(
    session: &mut PgConnection,
    shard: Shard,
    seq: u64,
    error: &ApplyError,
    retries: &Mutex<BatchRetries>,
) -> bool {
    match error {
        ApplyError::Database(DatabaseFailure::Data(_)) => true,
        ApplyError::Database(DatabaseFailure::Unexplained(_)) => retries::lock(retries).note_failure_of(seq),
        ApplyError::Database(DatabaseFailure::TimedOut(_)) => {
            // A stalled disk holds up this write too.
            let probe = timeout(PROBE_WRITE_TIMEOUT, watermark::probe_write(session, shard)).await;
            matches!(probe, Ok(Ok(()))) && retries::lock(retries).note_failure_of(seq)
        }
        ApplyError::WatermarkMoved | ApplyError::Database(DatabaseFailure::Lost(_)) => false,
    }
}
