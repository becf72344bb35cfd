//! Slices after a failure: the messages of a slice that failed are taken one by one.
//!
//! What must hold: no message holds up those behind it for ever, and none is skipped because the database was
//! slow for a moment.

/// The most messages of a step.
const SLICE: usize = 500;
/// How often a message must fail alone, in a row, until it is skipped.
const REPEATS: u32 = 3;

/// How a shard's messages are taken.
#[derive(Debug, Default)]
pub(super) struct Care {
    /// How many of the next messages are taken one by one.
    alone: usize,
    /// How often in a row the first of them has failed.
    failures: u32,
}

impl Care {
    /// The most messages of the next step.
    pub(super) const fn rows(&self) -> usize {
        if self.alone > 0 { 1 } else { SLICE }
    }

    /// A step has failed. True where the message that is due first is to be skipped: it has failed alone, and
    /// for its own data, or often enough.
    pub(super) fn failed(&mut self, is_data: bool) -> bool {
        if self.alone == 0 {
            self.alone = SLICE;
            return false;
        }
        self.failures += 1;
        is_data || self.failures >= REPEATS
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
    fn index(messages: usize, broken: usize, is_data: bool) -> (Vec<usize>, usize) {
        let (mut care, mut next, mut skipped, mut failures) = (Care::default(), 0, Vec::new(), 0);
        while next < messages {
            let end = messages.min(next + care.rows());
            if (next..end).contains(&broken) {
                failures += 1;
                if care.failed(is_data) {
                    skipped.push(next);
                    care.taken(1);
                    next += 1;
                }
            } else {
                care.taken(end - next);
                next = end;
            }
        }
        assert_eq!(care.rows(), SLICE, "what comes later is taken in slices again");
        (skipped, failures)
    }

    #[test]
    fn message_that_fails_always_is_skipped_and_no_other() {
        for broken in [0, 1, 250, 499, 500, 1_300] {
            assert_eq!(index(3_000, broken, true), (vec![broken], 2));
            assert_eq!(index(3_000, broken, false), (vec![broken], 4), "it is tried again first");
        }
    }

    #[test]
    fn message_that_succeeds_the_second_time_is_not_skipped() {
        let mut care = Care::default();
        assert!(!care.failed(false));
        for _ in 0..100 {
            assert!(!care.failed(false) && !care.failed(false));
            care.taken(1);
        }
    }
}
