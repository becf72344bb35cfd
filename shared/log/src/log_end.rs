//! Tracks the last event that a process has seen in a log: it may be later than what Postgres knows.
//!
//! What must hold: an event counts within the epoch in which it was seen, and in no other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The last event seen in a shard's log, with its epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct LogEnd {
    /// The epoch of the shard's stream.
    pub epoch: u64,
    /// The sequence of the last event seen in that epoch.
    pub seq: u64,
}

/// Tracks the last event seen in one shard's log.
#[derive(Debug, Default)]
pub struct HighestSeen {
    highest: Mutex<LogEnd>,
}

impl HighestSeen {
    fn lock(&self) -> MutexGuard<'_, LogEnd> {
        self.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an event that the log has. Returns whether it is later than all noted before.
    pub fn note(&self, epoch: u64, seq: u64) -> bool {
        let new = LogEnd { epoch, seq };
        let mut highest = self.lock();
        let is_later = new > *highest;
        if is_later {
            *highest = new;
        }
        is_later
    }

    /// The last event seen, in the latest epoch.
    #[must_use]
    pub fn highest(&self) -> LogEnd {
        *self.lock()
    }

    /// The last event seen in an epoch; 0 if the last event seen is of another epoch.
    #[must_use]
    pub fn in_epoch(&self, epoch: u64) -> u64 {
        let highest = self.highest();
        if highest.epoch == epoch { highest.seq } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seen_position_counts_within_its_epoch() {
        let highest_seen = HighestSeen::default();
        let results: Vec<bool> = [(1, 7), (1, 5), (2, 3), (1, 9)]
            .into_iter()
            .map(|(epoch, seq)| highest_seen.note(epoch, seq))
            .collect();
        assert_eq!(results, [true, false, true, false]);
        assert_eq!((highest_seen.in_epoch(1), highest_seen.in_epoch(2)), (0, 3));
    }
}
