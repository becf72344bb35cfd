//! Up to where a node has surely heard a shard.
//!
//! An event that Postgres has had for 15 s was pushed long before, unless something was lost since:
//! that is longer than an election and a retry. Healing begins there.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// How old an `applied` notice must be to count.
const SURE_AFTER: Duration = Duration::from_secs(15);

/// A shard's surely heard position.
#[derive(Debug, Default)]
pub(crate) struct Position {
    sure: Option<u64>,
    noted: VecDeque<(Instant, u64)>,
}

impl Position {
    /// Everything up to `seq` is applied.
    pub(crate) fn note(&mut self, seq: u64) {
        let now = Instant::now();
        if self.noted.back().is_none_or(|(_, last)| *last < seq) {
            self.noted.push_back((now, seq));
        }
        while let Some((at, seq)) = self.noted.front().copied() {
            if now.duration_since(at) < SURE_AFTER {
                break;
            }
            self.sure = self.sure.max(Some(seq));
            self.noted.pop_front();
        }
    }

    /// The first thing known: everything up to `seq` lies before anyone here began.
    pub(crate) fn begin(&mut self, seq: u64) {
        self.sure.get_or_insert(seq);
    }

    /// Something may have been lost: what was noted since counts for nothing.
    pub(crate) fn doubt(&mut self) {
        self.noted.clear();
    }

    /// Everything up to `seq` was read from the log.
    pub(crate) fn healed(&mut self, seq: u64) {
        self.sure = self.sure.max(Some(seq));
    }

    /// The position, once there is one.
    pub(crate) const fn sure(&self) -> Option<u64> {
        self.sure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_is_old_is_sure() {
        let mut position = Position::default();
        position.begin(5);
        position.note(10);
        tokio::time::advance(Duration::from_secs(10)).await;
        position.note(20);
        assert_eq!(position.sure(), Some(5));
        tokio::time::advance(Duration::from_secs(6)).await;
        position.note(20);
        assert_eq!(position.sure(), Some(10));
        position.doubt();
        tokio::time::advance(Duration::from_secs(20)).await;
        position.note(30);
        assert_eq!(position.sure(), Some(10));
    }
}
