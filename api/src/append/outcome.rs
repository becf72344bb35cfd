//! Describes what an acknowledged append has led to.
//!
//! What must hold: the broker acknowledges a repeated message id with the place of the event that it stored
//! first, whatever the repeated one says. Such an answer is no success before both were compared, so its place
//! can't be had without the comparison.

use async_nats::jetstream::Context;

use log::StoredEvent;
use protocol::id::Shard;

/// Where an event stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// The stream it is in.
    pub shard: Shard,
    /// Its sequence there.
    pub seq: u64,
}

/// The broker has acknowledged an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum AppendOutcome {
    /// The event is stored.
    New(LogPosition),
    /// An event was stored under the same message id before: the same one, or another.
    Earlier(UnverifiedDuplicate),
}

impl AppendOutcome {
    pub(super) const fn new(position: LogPosition, is_duplicate: bool) -> Self {
        if is_duplicate { Self::Earlier(UnverifiedDuplicate(position)) } else { Self::New(position) }
    }

    pub(super) const fn position(&self) -> LogPosition {
        match self {
            Self::New(position) | Self::Earlier(UnverifiedDuplicate(position)) => *position,
        }
    }
}

/// An event that was stored earlier under the message id of an append, not yet compared with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnverifiedDuplicate(LogPosition);

/// Why an earlier event does not answer an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DuplicateMismatch {
    /// The message id was used for something else.
    #[error("another event is stored under this message id")]
    Different,
    /// The log did not give the event: what is stored is not known.
    #[error("the event stored under this message id can't be read now")]
    Unreadable,
}

impl UnverifiedDuplicate {
    /// Reads the earlier event from the leader. Gives its place and what `same` made of it; `same` gives
    /// `None` for an event that is not what was to be appended.
    ///
    /// # Errors
    /// When it is another event, or can't be read.
    pub async fn verify<T>(
        self,
        jetstream: &Context,
        same: impl FnOnce(&StoredEvent) -> Option<T>,
    ) -> Result<(LogPosition, T), DuplicateMismatch> {
        let LogPosition { shard, seq } = self.0;
        let stored = log::get(jetstream, shard, seq).await.map_err(|error| {
            tracing::warn!(%shard, seq, error = format!("{error:#}"), "an earlier event can't be read");
            DuplicateMismatch::Unreadable
        })?;
        let stored = stored.ok_or(DuplicateMismatch::Unreadable)?;
        same(&stored).map(|same| (self.0, same)).ok_or(DuplicateMismatch::Different)
    }
}
