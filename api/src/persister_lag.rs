//! Refuses changes of access while the persister lags behind.
//!
//! What must hold: a removal is not answered as done while reads will not show it for long. The persister publishes
//! once a second up to which event Postgres has each shard, even if there are no new events.

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

/// A persister without a notice for this long counts as down.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum age of an event of this node that Postgres lacks.
const LAG_MAX: Duration = Duration::from_secs(2);

/// By shard: the oldest append of this node that Postgres lacked when it was noted, and when it was made.
pub(crate) struct PersisterLag(Vec<Mutex<Option<(u64, Instant)>>>);

impl PersisterLag {
    /// Starts without appends.
    pub(crate) fn new(shards: ShardCount) -> Self {
        Self(shards.all().map(|_| Mutex::new(None)).collect())
    }

    /// Notes an append, unless an earlier one is noted that Postgres still lacks.
    pub(crate) fn note_append(&self, applied: &AppliedWatch, appended: LogPosition) {
        let Some(waiting) = self.0.get(appended.shard.index()) else { return };
        let applied_seq = applied.current(appended.shard).map_or(0, |applied| applied.seq);
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_none_or(|(seq, _)| seq <= applied_seq) {
            *waiting = Some((appended.seq, Instant::now()));
        }
    }

    /// Checks that the persister of a shard does not lag.
    ///
    /// # Errors
    /// Answers 503 if it does.
    pub(crate) fn check(&self, applied: &AppliedWatch, shard: Shard) -> Result<(), Error> {
        let applied_seq = applied.current(shard).map_or(0, |applied| applied.seq);
        let waiting = self.0.get(shard.index()).and_then(|waiting| {
            let waiting = *waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.filter(|(seq, at)| *seq > applied_seq && at.elapsed() > LAG_MAX)
        });
        if waiting.is_some() || applied.since_last_notice(shard) > NOTICE_TIMEOUT {
            let detail = "The database is behind: nothing can be changed now. Try again.";
            return Err(Error::new(ErrorCode::Unavailable, detail));
        }
        Ok(())
    }
}
