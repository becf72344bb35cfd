//! Refuses changes of rights while the persister lags.
//!
//! What must hold: nobody is told "removed" while reads can't see it for long. The persister says each
//! second up to where each shard is in Postgres, also when nothing happens.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::append::LogPosition;
use log::AppliedWatch;
use protocol::{
    error::{Error, ErrorCode},
    id::{Shard, ShardCount},
};
use tokio::time::Instant;

/// A persister without a notice for so long is down.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(3);
/// An event that was appended so long ago should be in Postgres.
const LAG_MAX: Duration = Duration::from_secs(2);

/// By shard: an append of this node that Postgres did not have yet, and when it was made.
pub(crate) struct PersisterLag(Vec<Mutex<Option<(u64, Instant)>>>);

impl PersisterLag {
    /// No append yet.
    pub(crate) fn new(shards: ShardCount) -> Self {
        Self(shards.all().map(|_| Mutex::new(None)).collect())
    }

    /// Notes an append; the one noted before is kept until it is applied.
    pub(crate) fn note_append(&self, applied: &AppliedWatch, appended: LogPosition) {
        let Some(waiting) = self.0.get(appended.shard.index()) else { return };
        let applied_seq = applied.current(appended.shard).map_or(0, |applied| applied.seq);
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_none_or(|(seq, _)| seq <= applied_seq) {
            *waiting = Some((appended.seq, Instant::now()));
        }
    }

    /// Checks that the shard's persister does not lag.
    ///
    /// # Errors
    /// Says so.
    pub(crate) fn check(&self, applied: &AppliedWatch, shard: Shard) -> Result<(), Error> {
        let applied_seq = applied.current(shard).map_or(0, |applied| applied.seq);
        let waiting = self.0.get(shard.index()).and_then(|waiting| {
            let waiting = *waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.filter(|(seq, at)| *seq > applied_seq && at.elapsed() > LAG_MAX)
        });
        if waiting.is_some() || applied.silence(shard) > NOTICE_TIMEOUT {
            let detail = "The database is behind: nothing can be changed now. Try again.";
            return Err(Error::new(ErrorCode::Unavailable, detail));
        }
        Ok(())
    }
}
