//! Tracks failures of a shard's batches, and shrinks the batches that follow, down to single events.
//!
//! What must hold: no single event stops a shard for ever, and no event is rejected because the database itself fails:
//! only failures that nothing else explains are counted here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::shard::apply::plan::BATCH_EVENTS_MAX;

/// Consecutive failures alone after which an event is rejected, for an error without a known cause, or for statements
/// that time out while Postgres can write other things. The pauses between the attempts grow up to three seconds.
const FAILURES_MAX: u32 = 8;

/// What earlier failures mean for the next batch of a shard.
#[derive(Debug)]
pub(crate) struct BatchRetries {
    /// Maximum events of the next batch.
    events_max: usize,
    /// The event that failed alone last, and the number of its consecutive failures.
    failing_event: Option<(u64, u32)>,
}

/// Locks what a shard's worker and its transactions share.
pub(crate) fn lock(retries: &Mutex<BatchRetries>) -> MutexGuard<'_, BatchRetries> {
    retries.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for BatchRetries {
    fn default() -> Self {
        Self { events_max: BATCH_EVENTS_MAX, failing_event: None }
    }
}

impl BatchRetries {
    /// Maximum events of the next batch.
    pub(crate) const fn events_max(&self) -> usize {
        self.events_max
    }

    /// Whether a batch has failed, and the limit is not back where it was.
    pub(crate) const fn has_failures(&self) -> bool {
        self.events_max < BATCH_EVENTS_MAX || self.failing_event.is_some()
    }

    /// A batch took too long: the next one has half as many events, down to one.
    pub(crate) fn note_timeout(&mut self, events: usize) {
        self.events_max = (events.min(self.events_max) / 2).max(1);
    }

    /// A batch was written: the next one may be a quarter larger.
    pub(crate) fn note_success(&mut self) {
        self.events_max = (self.events_max + self.events_max / 4 + 1).min(BATCH_EVENTS_MAX);
        self.failing_event = None;
    }

    /// Notes that an event failed alone, with an error that nothing else explains. Returns whether to reject the event.
    pub(crate) fn note_failure_of(&mut self, seq: u64) -> bool {
        let failures = match self.failing_event {
            Some((failing_seq, failures)) if failing_seq == seq => failures + 1,
            _ => 1,
        };
        self.failing_event = Some((seq, failures));
        failures >= FAILURES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_halves_at_each_timeout_and_grows_back_after_success() {
        let mut retries = BatchRetries::default();
        let mut events = BATCH_EVENTS_MAX;
        for halved in [500, 250, 125, 62, 31, 15, 7, 3, 1, 1] {
            retries.note_timeout(events);
            assert_eq!(retries.events_max(), halved);
            events = halved;
        }
        for _ in 0..40 {
            let before = retries.events_max();
            retries.note_success();
            assert!(retries.events_max() > before || before == BATCH_EVENTS_MAX, "{before}");
        }
        assert_eq!(retries.events_max(), BATCH_EVENTS_MAX);
    }

    #[test]
    fn batch_smaller_than_the_limit_halves_by_its_own_size() {
        let mut retries = BatchRetries::default();
        retries.note_timeout(40);
        assert_eq!(retries.events_max(), 20);
    }

    #[test]
    fn event_is_rejected_only_after_failing_alone_several_times_in_a_row() {
        let mut retries = BatchRetries::default();
        for _ in 1..FAILURES_MAX {
            assert!(!retries.note_failure_of(7));
        }
        assert!(!retries.note_failure_of(8), "another event has failed once");
        for _ in 1..FAILURES_MAX {
            assert!(!retries.note_failure_of(7));
        }
        retries.note_success();
        assert!(!retries.note_failure_of(7), "a written batch resets the count");
    }
}
