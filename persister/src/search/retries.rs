//! Shrinks slices after a failure: the messages of a slice that failed are indexed one by one.
//!
//! What must hold: no message holds up those behind it for ever, and none is skipped because the database is slow, for
//! however long that lasts.

/// Maximum messages of a step.
const STEP_MESSAGES_MAX: usize = 500;
/// Consecutive failures alone after which a message is skipped.
const FAILURES_MAX: u32 = 3;

/// Why a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IndexingFailure {
    /// Postgres refuses the data and always will.
    Data,
    /// A slice timed out, parsing the text alone takes too long, or the error names no cause.
    Unexplained,
    /// A single message timed out, although parsing its text does not.
    SlowDatabase,
}

/// Decides how many messages of a shard the next step takes, and when one is skipped.
#[derive(Debug, Default)]
pub(super) struct SearchRetries {
    /// Number of the next messages that are taken one by one.
    single_steps_left: usize,
    /// Consecutive unexplained failures of the first of them.
    failures: u32,
}

impl SearchRetries {
    /// Maximum messages of the next step.
    pub(super) const fn messages_max(&self) -> usize {
        if self.single_steps_left > 0 { 1 } else { STEP_MESSAGES_MAX }
    }

    /// Whether the next step takes a single message.
    pub(super) const fn is_single(&self) -> bool {
        self.single_steps_left > 0
    }

    /// Notes a failed step. Returns whether to skip the message that is due first: it has failed alone, either because
    /// of its data, or [`FAILURES_MAX`] times for a reason that may lie in it.
    pub(super) fn note_failure(&mut self, failure: IndexingFailure) -> bool {
        if self.single_steps_left == 0 {
            self.single_steps_left = STEP_MESSAGES_MAX;
            return false;
        }
        match failure {
            IndexingFailure::Data => true,
            IndexingFailure::Unexplained => {
                self.failures += 1;
                self.failures >= FAILURES_MAX
            }
            IndexingFailure::SlowDatabase => false,
        }
    }

    /// Notes that this many messages were removed from `search_due`.
    pub(super) fn note_done(&mut self, messages: usize) {
        self.single_steps_left = self.single_steps_left.saturating_sub(messages);
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Indexes messages of which one always fails. Returns the skipped messages, and the number of failures.
    fn simulate_indexing(messages: usize, failing: usize, failure: IndexingFailure) -> (Vec<usize>, usize) {
        let (mut retries, mut next, mut skipped, mut failures) = (SearchRetries::default(), 0, Vec::new(), 0);
        while next < messages {
            let end = messages.min(next + retries.messages_max());
            if (next..end).contains(&failing) {
                failures += 1;
                if retries.note_failure(failure) {
                    skipped.push(next);
                    retries.note_done(1);
                    next += 1;
                }
            } else {
                retries.note_done(end - next);
                next = end;
            }
        }
        assert_eq!(retries.messages_max(), STEP_MESSAGES_MAX, "later messages are indexed in slices again");
        (skipped, failures)
    }

    #[test]
    fn message_that_always_fails_is_skipped_alone() {
        for failing in [0, 1, 250, 499, 500, 1_300] {
            assert_eq!(simulate_indexing(3_000, failing, IndexingFailure::Data), (vec![failing], 2));
            assert_eq!(
                simulate_indexing(3_000, failing, IndexingFailure::Unexplained),
                (vec![failing], 4),
                "it is retried before it is skipped"
            );
        }
    }

    #[test]
    fn message_that_succeeds_the_second_time_is_not_skipped() {
        let mut retries = SearchRetries::default();
        assert!(!retries.note_failure(IndexingFailure::Unexplained));
        for _ in 0..100 {
            assert!(
                !retries.note_failure(IndexingFailure::Unexplained)
                    && !retries.note_failure(IndexingFailure::Unexplained)
            );
            retries.note_done(1);
        }
    }

    #[test]
    fn message_is_never_skipped_while_the_database_is_slow() {
        let mut retries = SearchRetries::default();
        for _ in 0..1_000 {
            assert!(!retries.note_failure(IndexingFailure::SlowDatabase));
            assert!(retries.messages_max() <= STEP_MESSAGES_MAX);
        }
        assert!(retries.is_single());
        assert!(
            !retries.note_failure(IndexingFailure::Unexplained),
            "failures of that time are not counted afterwards"
        );
        assert!(!retries.note_failure(IndexingFailure::Unexplained));
        assert!(retries.note_failure(IndexingFailure::Unexplained));
    }
}
