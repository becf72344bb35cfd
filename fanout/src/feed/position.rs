//! Up to where a node has surely heard a shard.
//!
//! An event that Postgres has had for longer than an election and a retry was pushed before, unless something
//! was lost since. Healing begins there, and clients are told, so that a quiet room resumes too.
//!
//! What must hold: whatever a client is told lies below anything that may yet be found to have been lost, and
//! all of it was handed to the client before.

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

use crate::session::frame;

/// How many ticks old an `applied` notice must be to count; there is at most one a second. An append that was
/// not acknowledged is repeated until its deadline, and a leader may be elected in that time.
pub(super) const SURE_AFTER: u64 = ELECTION_MAX.as_secs() + (DEADLINE_MS / 1_000).unsigned_abs() + 1;

/// A shard's surely heard position.
#[derive(Debug, Default)]
pub(crate) struct Position {
    epoch: Option<u64>,
    sure: Option<u64>,
    /// Ticks so far: a node that was stopped for a while has not waited meanwhile.
    ticks: u64,
    noted: VecDeque<(u64, u64)>,
}

impl Position {
    /// At a tick, with nothing waiting to be heard: everything up to `seq` is applied.
    pub(crate) fn note(&mut self, seq: u64) {
        self.ticks += 1;
        if self.noted.back().is_none_or(|(_, last)| *last < seq) {
            self.noted.push_back((self.ticks, seq));
        }
        while let Some((at, seq)) = self.noted.front().copied() {
            if self.ticks - at < SURE_AFTER {
                break;
            }
            self.sure = self.sure.max(Some(seq));
            self.noted.pop_front();
        }
    }

    /// The first thing known: everything up to `seq` lies before anyone here began.
    pub(crate) fn begin(&mut self, epoch: u64, seq: u64) {
        self.epoch.get_or_insert(epoch);
        self.sure.get_or_insert(seq);
    }

    /// It is another log: nobody here follows it yet.
    pub(crate) fn begin_again(&mut self, epoch: u64, seq: u64) {
        *self = Self { epoch: Some(epoch), sure: Some(seq), ..Self::default() };
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

    /// The epoch of the shard's stream, once it is known.
    pub(crate) const fn epoch(&self) -> Option<u64> {
        self.epoch
    }
}

/// The positions of all shards, as sockets are told them.
#[derive(Debug)]
pub(crate) struct Positions(Mutex<Vec<(u64, u64)>>);

impl Positions {
    /// Nothing is known yet.
    pub(crate) fn new(shards: ShardCount) -> Self {
        Self(Mutex::new(vec![(0, 0); shards.all().count()]))
    }

    fn all(&self) -> MutexGuard<'_, Vec<(u64, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a shard stands.
    pub(crate) fn set(&self, shard: Shard, position: &Position) {
        if let (Some(epoch), Some(sure)) = (position.epoch, position.sure)
            && let Some(place) = self.all().get_mut(shard.index())
        {
            *place = (epoch, sure);
        }
    }

    /// The frame that tells them: the same for all sockets.
    pub(crate) fn frame(&self) -> Bytes {
        let data = serde_json::to_string(&*self.all()).unwrap_or_else(|_| "[]".to_owned());
        let head = format!(r#"{{"event":"{}","data":"#, live::POSITION);
        frame::text(&[head.as_bytes(), data.as_bytes(), b"}"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_moves_only_to_what_is_older_than_an_election_and_a_retry() {
        let mut position = Position::default();
        position.begin(1, 5);
        position.note(10);
        for _ in 1..SURE_AFTER {
            position.note(20);
        }
        assert_eq!(position.sure(), Some(5));
        position.note(20);
        assert_eq!(position.sure(), Some(10));
        position.doubt();
        for _ in 0..SURE_AFTER {
            position.note(30);
        }
        assert_eq!(position.sure(), Some(10), "what was noted before the doubt counts for nothing");
        position.note(30);
        assert_eq!(position.sure(), Some(30));
    }

    #[test]
    fn position_waits_longer_than_the_printed_election() {
        assert!(std::time::Duration::from_secs(SURE_AFTER) > ELECTION_MAX);
    }
}
