//! Up to where a node has surely heard a shard.
//!
//! An event that Postgres has had for 15 s was pushed long before, unless something was lost since:
//! that is longer than an election and a retry. Healing begins there, and clients are told, so that
//! a quiet room resumes too.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use shared::{
    event::live,
    id::{Shard, ShardCount},
};
use tokio::time::Instant;

use crate::session::frame;

/// How old an `applied` notice must be to count.
const SURE_AFTER: Duration = Duration::from_secs(15);

/// A shard's surely heard position.
#[derive(Debug, Default)]
pub(crate) struct Position {
    epoch: Option<u64>,
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
    pub(crate) fn begin(&mut self, epoch: u64, seq: u64) {
        self.epoch.get_or_insert(epoch);
        self.sure.get_or_insert(seq);
    }

    /// It is another log: nobody here follows it yet.
    pub(crate) fn begin_again(&mut self, epoch: u64, seq: u64) {
        *self = Self { epoch: Some(epoch), sure: Some(seq), noted: VecDeque::new() };
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

    #[tokio::test(start_paused = true)]
    async fn only_what_is_old_is_sure() {
        let mut position = Position::default();
        position.begin(1, 5);
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
