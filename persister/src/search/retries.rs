//! Slices after a failure: the messages of a slice that failed are taken one by one.
//!
//! What must hold: no message holds up those behind it for ever, and none is skipped because the database was
//! slow, however long it is.

/// The most messages of a step.
const SLICE: usize = 500;
/// How often a message must fail alone, in a row, until it is skipped.
const REPEATS: u32 = 3;

/// What made a step fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
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
    alone: usize,
    /// How often in a row the first of them has failed for a reason of its own.
    failures: u32,
}

impl SearchRetries {
    /// The most messages of the next step.
    pub(super) const fn rows(&self) -> usize {
        if self.alone > 0 { 1 } else { SLICE }
    }

    /// Whether the next step takes a single message.
    pub(super) const fn is_alone(&self) -> bool {
        self.alone > 0
    }

    /// A step has failed. True where the message that is due first is to be skipped: it has failed alone, and
    /// for its own data, or often enough for a reason that may lie in it.
    pub(super) fn failed(&mut self, failure: Failure) -> bool {
        if self.alone == 0 {
            self.alone = SLICE;
            return false;
        }
        match failure {
            Failure::Data => true,
            Failure::Unexplained => {
                self.failures += 1;
                self.failures >= REPEATS
            }
            Failure::SlowDatabase => false,
        }
    }

    /// So many messages were taken from the notes.
    pub(super) fn taken(&mut self, messages: usize) {
        self.alone = self.alone.saturating_sub(messages);
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Indexes messages of which one fails always, and answers what was skipped, and after how many failures.
    fn index(messages: usize, broken: usize, failure: Failure) -> (Vec<usize>, usize) {
        let (mut retries, mut next, mut skipped, mut failures) = (SearchRetries::default(), 0, Vec::new(), 0);
        while next < messages {
            let end = messages.min(next + retries.rows());
            if (next..end).contains(&broken) {
                failures += 1;
                if retries.failed(failure) {
                    skipped.push(next);
                    retries.taken(1);
                    next += 1;
                }
            } else {
                retries.taken(end - next);
                next = end;
            }
        }
        assert_eq!(retries.rows(), SLICE, "what comes later is taken in slices again");
        (skipped, failures)
    }

    #[test]
    fn message_that_fails_always_is_skipped_and_no_other() {
        for broken in [0, 1, 250, 499, 500, 1_300] {
            assert_eq!(index(3_000, broken, Failure::Data), (vec![broken], 2));
            assert_eq!(
                index(3_000, broken, Failure::Unexplained),
                (vec![broken], 4),
                "it is tried again first"
            );
        }
    }

    #[test]
    fn message_that_succeeds_the_second_time_is_not_skipped() {
        let mut retries = SearchRetries::default();
        assert!(!retries.failed(Failure::Unexplained));
        for _ in 0..100 {
            assert!(!retries.failed(Failure::Unexplained) && !retries.failed(Failure::Unexplained));
            retries.taken(1);
        }
    }

    #[test]
    fn message_is_never_skipped_while_the_database_is_slow() {
        let mut retries = SearchRetries::default();
        for _ in 0..1_000 {
            assert!(!retries.failed(Failure::SlowDatabase));
            assert!(retries.rows() <= SLICE);
        }
        assert!(retries.is_alone());
        assert!(!retries.failed(Failure::Unexplained), "nor is what failed then counted afterwards");
        assert!(!retries.failed(Failure::Unexplained));
        assert!(retries.failed(Failure::Unexplained));
    }
}
