//! Reads Roomcast's log: one JetStream stream for each shard, in order.
//!
//! api appends to it, fanout and persister read it.
//!
//! Every read of a single event goes to the stream's leader: a replica that lags would answer that an acknowledged
//! event does not exist.

mod applied;
mod event;
mod log_end;
mod read;
mod stream;

pub use applied::{AppliedPosition, AppliedWatch, SyncHint};
pub use event::get_event;
pub use log_end::{HighestSeen, LogEnd};
pub use read::{LogReader, ReadError, ReadEvent};
pub use stream::{
    LogInfo, StreamDescription, StreamState, describe, discover, get, last, next, purge_below, state,
};

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use time::OffsetDateTime;

use protocol::id::Shard;

/// Maximum time without appends while a stream elects its leader, as documented in `deploy/OPERATING.md`.
pub const ELECTION_MAX: Duration = Duration::from_secs(20);

/// An event as the log holds it.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// The shard whose stream holds it.
    pub shard: Shard,
    /// Its sequence in the stream: the event's id.
    pub seq: u64,
    /// The subject it was appended to.
    pub subject: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
    /// When the broker stored it.
    pub time: OffsetDateTime,
}
