//! Earlier failures of a shard's batches, and the smaller batches and single events that they led to.
//!
//! What must hold: no single event stops a shard for ever, and no event is given up for a failure of the
//! database itself: only failures that the database blamed on nothing else are counted here.

use crate::batch::ROWS;

/// How often an event must fail alone, in a row, until it is rejected for an error that names no cause, or for
/// statements that take too long while Postgres writes other things. There are growing pauses between the tries,
/// up to three seconds.
const REPEATS: u32 = 8;

/// The failures that the next batch of a shard has to take into account.
#[derive(Debug)]
pub(crate) struct Retries {
    /// The most events of the next batch.
    rows: usize,
    /// The event that failed alone the last time, and how often in a row it has.
    failing: Option<(u64, u32)>,
}

impl Default for Retries {
    fn default() -> Self {
        Self { rows: ROWS, failing: None }
    }
}

impl Retries {
    /// The most events of the next batch.
    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    /// A batch took too long: the next one has half as many events, down to one.
    pub(crate) fn timed_out(&mut self, events: usize) {
        self.rows = (events.min(self.rows) / 2).max(1);
    }

    /// A batch was written: the next one may be a quarter larger.
    pub(crate) fn written(&mut self) {
        self.rows = (self.rows + self.rows / 4 + 1).min(ROWS);
        self.failing = None;
    }

    /// An event has failed alone, for an error that blames nothing else. True once that has happened so often
    /// that the event is rejected.
    pub(crate) fn has_failed_enough(&mut self, seq: u64) -> bool {
        let times = match self.failing {
            Some((failing, times)) if failing == seq => times + 1,
            _ => 1,
        };
        self.failing = Some((seq, times));
        times >= REPEATS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_halves_at_each_timeout_and_grows_back_after_success() {
        let mut retries = Retries::default();
        let mut events = ROWS;
        for halved in [500, 250, 125, 62, 31, 15, 7, 3, 1, 1] {
            retries.timed_out(events);
            assert_eq!(retries.rows(), halved);
            events = halved;
        }
        for _ in 0..40 {
            let before = retries.rows();
            retries.written();
            assert!(retries.rows() > before || before == ROWS, "{before}");
        }
        assert_eq!(retries.rows(), ROWS);
    }

    #[test]
    fn batch_smaller_than_the_limit_halves_by_its_own_size() {
        let mut retries = Retries::default();
        retries.timed_out(40);
        assert_eq!(retries.rows(), 20);
    }

    #[test]
    fn event_is_given_up_only_after_failing_alone_several_times_in_a_row() {
        let mut retries = Retries::default();
        for _ in 1..REPEATS {
            assert!(!retries.has_failed_enough(7));
        }
        assert!(!retries.has_failed_enough(8), "another event begins anew");
        for _ in 1..REPEATS {
            assert!(!retries.has_failed_enough(7));
        }
        retries.written();
        assert!(!retries.has_failed_enough(7), "so does one after which a batch was written");
    }
}
