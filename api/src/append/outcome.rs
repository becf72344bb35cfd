//! Describes the result of an acknowledged append.
//!
//! What must hold: the broker acknowledges a repeated message id with the sequence of the event that it stored first,
//! whatever the repeated append contains. Such an acknowledgement is no success before both events were compared, so
//! its position can't be read without the comparison.

use async_nats::jetstream::Context;

use log::StoredEvent;
use protocol::id::Shard;

/// The position of an event in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// The shard whose stream has the event.
    pub shard: Shard,
    /// The event's sequence in the stream.
    pub seq: u64,
}

/// The result of an append that the broker has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum AppendOutcome {
    /// The event is stored.
    New(LogPosition),
    /// An event was stored under this message id before: the same one, or another.
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

/// An event that was stored earlier under the message id of an append, not yet compared with the append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnverifiedDuplicate(LogPosition);

/// Why an earlier event does not answer an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DuplicateMismatch {
    /// Another event is stored under the message id.
    #[error("another event is stored under this message id")]
    Different,
    /// The log did not return the event: its content is not known.
    #[error("the event stored under this message id can't be read now")]
    Unreadable,
}

impl UnverifiedDuplicate {
    /// Reads the earlier event from the leader. Returns its position and the result of `same`, which returns `None`
    /// for an event that is not the one to append.
    ///
    /// # Errors
    /// Fails if it is another event, or can't be read.
    pub async fn verify<T>(
        self,
        jetstream: &Context,
        same: impl FnOnce(&StoredEvent) -> Option<T>,
    ) -> Result<(LogPosition, T), DuplicateMismatch> {
        let LogPosition { shard, seq } = self.0;
        let stored = log::get(jetstream, shard, seq).await.map_err(|error| {
            tracing::warn!(%shard, seq, error = format!("{error:#}"), "could not read an earlier event");
            DuplicateMismatch::Unreadable
        })?;
        let stored = stored.ok_or(DuplicateMismatch::Unreadable)?;
        same(&stored).map(|same| (self.0, same)).ok_or(DuplicateMismatch::Different)
    }
}
