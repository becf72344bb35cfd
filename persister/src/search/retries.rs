//! Shrinks slices after a failure: the messages of a slice that failed are indexed one by one.
//!
//! What must hold: no message holds up those behind it for ever, and none is skipped because the database was
//! slow, however long it is.

/// The most messages of a step.
const STEP_MESSAGES_MAX: usize = 500;
/// How often a message must fail alone, in a row, until it is skipped.
const FAILURES_MAX: u32 = 3;

/// What made a step fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IndexingFailure {
    /// Postgres refuses the data, now and always.
    Data,
    /// The text alone takes too long to parse, or the error names no cause.
    Unexplained,
    /// A statement took too long that does more than parse a text.
    SlowDatabase,
}

/// How many messages of a shard the next step takes, and when one is skipped.
#[derive(Debug, Default)]
pub(super) struct SearchRetries {
    /// How many of the next messages are taken one by one.
    single_steps_left: usize,
    /// How often in a row the first of them has failed for a reason of its own.
    failures: u32,
}

impl SearchRetries {
    /// The most messages of the next step.
    pub(super) const fn messages_max(&self) -> usize {
        if self.single_steps_left > 0 { 1 } else { STEP_MESSAGES_MAX }
    }

    /// Whether the next step takes a single message.
    pub(super) const fn is_single(&self) -> bool {
        self.single_steps_left > 0
    }

    /// A step has failed. True where the message that is due first is to be skipped: it has failed alone, and
    /// for its own data, or often enough for a reason that may lie in it.
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

    /// So many messages were taken from the notes.
    pub(super) fn note_done(&mut self, messages: usize) {
        self.single_steps_left = self.single_steps_left.saturating_sub(messages);
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Indexes messages of which one fails always, and answers what was skipped, and after how many failures.
    fn index(messages: usize, broken: usize, failure: IndexingFailure) -> (Vec<usize>, usize) {
        let (mut retries, mut next, mut skipped, mut failures) = (SearchRetries::default(), 0, Vec::new(), 0);
        while next < messages {
            let end = messages.min(next + retries.messages_max());
            if (next..end).contains(&broken) {
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
        assert_eq!(retries.messages_max(), STEP_MESSAGES_MAX, "what comes later is taken in slices again");
        (skipped, failures)
    }

    #[test]
    fn message_that_fails_always_is_skipped_and_no_other() {
        for broken in [0, 1, 250, 499, 500, 1_300] {
            assert_eq!(index(3_000, broken, IndexingFailure::Data), (vec![broken], 2));
            assert_eq!(
                index(3_000, broken, IndexingFailure::Unexplained),
                (vec![broken], 4),
                "it is tried again first"
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
            "nor is what failed then counted afterwards"
        );
        assert!(!retries.note_failure(IndexingFailure::Unexplained));
        assert!(retries.note_failure(IndexingFailure::Unexplained));
    }
}
