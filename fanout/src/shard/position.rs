//! Tracks up to which event a node has received a shard without a gap.
//!
//! An event that Postgres has had for longer than an election and a retry was pushed before, unless events were lost
//! since. Catching up begins at this position, and it is pushed to clients, so that a quiet room resumes too.
//!
//! What must hold: a position that is pushed to a client lies below each event that may yet be found to have been lost,
//! and the client was pushed everything up to it before.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use log::ELECTION_MAX;
use protocol::{
    event::live,
    id::{Shard, ShardCount},
    rpc::DEADLINE_MS,
};

use crate::encode::frame;

/// How many ticks old an `applied` notice must be to count; there is at most one a second. An append that was
/// not acknowledged is repeated until its deadline, and a leader may be elected in that time.
pub(super) const SAFE_AFTER_TICKS: u64 = ELECTION_MAX.as_secs() + (DEADLINE_MS / 1_000).unsigned_abs() + 1;

/// The position of a shard up to which everything was received for sure.
#[derive(Debug, Default)]
pub(crate) struct SafePosition {
    epoch: Option<u64>,
    safe_seq: Option<u64>,
    /// Ticks so far: a node that was stopped for a while has not waited meanwhile.
    ticks: u64,
    pending: VecDeque<(u64, u64)>,
}

impl SafePosition {
    /// Notes that everything up to `seq` is applied. To be called at a tick at which no message waits to be received.
    pub(crate) fn note_applied(&mut self, seq: u64) {
        self.ticks += 1;
        if self.pending.back().is_none_or(|(_, last)| *last < seq) {
            self.pending.push_back((self.ticks, seq));
        }
        while let Some((at, seq)) = self.pending.front().copied() {
            if self.ticks - at < SAFE_AFTER_TICKS {
                break;
            }
            self.safe_seq = self.safe_seq.max(Some(seq));
            self.pending.pop_front();
        }
    }

    /// Sets the first position: everything up to `seq` lies before the first channel was opened.
    pub(crate) fn set_first(&mut self, epoch: u64, seq: u64) {
        self.epoch.get_or_insert(epoch);
        self.safe_seq.get_or_insert(seq);
    }

    /// Begins with another log, of which no channel is open yet.
    pub(crate) fn reset(&mut self, epoch: u64, seq: u64) {
        *self = Self { epoch: Some(epoch), safe_seq: Some(seq), ..Self::default() };
    }

    /// Notes that events may have been lost: positions that were noted but are not safe yet are dropped.
    pub(crate) fn discard_pending(&mut self) {
        self.pending.clear();
    }

    /// Notes that everything up to `seq` was read from the log.
    pub(crate) fn note_caught_up_to(&mut self, seq: u64) {
        self.safe_seq = self.safe_seq.max(Some(seq));
    }

    /// The position, once there is one.
    pub(crate) const fn safe_seq(&self) -> Option<u64> {
        self.safe_seq
    }

    /// The epoch of the shard's stream, once it is known.
    pub(crate) const fn epoch(&self) -> Option<u64> {
        self.epoch
    }
}

/// The positions of all shards, as they are pushed to sockets.
#[derive(Debug)]
pub(crate) struct ShardPositions(Mutex<Vec<(u64, u64)>>);

impl ShardPositions {
    /// No position is known yet.
    pub(crate) fn new(shards: ShardCount) -> Self {
        Self(Mutex::new(vec![(0, 0); shards.all().count()]))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the position of a shard.
    pub(crate) fn set(&self, shard: Shard, position: &SafePosition) {
        if let (Some(epoch), Some(safe_seq)) = (position.epoch, position.safe_seq)
            && let Some(entry) = self.lock().get_mut(shard.index())
        {
            *entry = (epoch, safe_seq);
        }
    }

    /// The frame with all positions: the same for all sockets.
    pub(crate) fn frame(&self) -> Bytes {
        let data = serde_json::to_string(&*self.lock()).unwrap_or_else(|_| "[]".to_owned());
        let head = format!(r#"{{"event":"{}","data":"#, live::POSITION);
        frame::text(&[head.as_bytes(), data.as_bytes(), b"}"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_moves_only_to_what_is_older_than_an_election_and_a_retry() {
        let mut position = SafePosition::default();
        position.set_first(1, 5);
        position.note_applied(10);
        for _ in 1..SAFE_AFTER_TICKS {
            position.note_applied(20);
        }
        assert_eq!(position.safe_seq(), Some(5));
        position.note_applied(20);
        assert_eq!(position.safe_seq(), Some(10));
        position.discard_pending();
        for _ in 0..SAFE_AFTER_TICKS {
            position.note_applied(30);
        }
        assert_eq!(position.safe_seq(), Some(10), "positions noted before a possible loss are dropped");
        position.note_applied(30);
        assert_eq!(position.safe_seq(), Some(30));
    }

    #[test]
    fn position_waits_longer_than_the_printed_election() {
        assert!(std::time::Duration::from_secs(SAFE_AFTER_TICKS) > ELECTION_MAX);
    }
}
