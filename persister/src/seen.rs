//! How far this process has seen a log to reach: further than Postgres knows while that is down.
//!
//! What must hold: it counts within the epoch in which it was seen, and in no other.

use std::sync::{Mutex, PoisonError};

/// The last event seen, with its epoch.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    furthest: Mutex<(u64, u64)>,
}

impl Seen {
    /// The log reaches that far.
    pub(crate) fn note(&self, epoch: u64, last: u64) {
        let mut furthest = self.furthest.lock().unwrap_or_else(PoisonError::into_inner);
        *furthest = (*furthest).max((epoch, last));
    }

    /// The last event seen in an epoch.
    pub(crate) fn in_epoch(&self, epoch: u64) -> u64 {
        let furthest = *self.furthest.lock().unwrap_or_else(PoisonError::into_inner);
        if furthest.0 == epoch { furthest.1 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_counts_within_its_epoch() {
        let seen = Seen::default();
        for (epoch, last) in [(1, 7), (1, 5), (2, 3), (1, 9)] {
            seen.note(epoch, last);
        }
        assert_eq!((seen.in_epoch(1), seen.in_epoch(2)), (0, 3));
    }
}
