//! Collects batches from the log.
//!
//! A batch has what is stored already, and what arrives within a few milliseconds, or within a few more where batches
//! follow one another closely.

use std::time::Duration;

use log::{LogReader, ReadError, ReadEvent, StoredEvent};
use tokio::time::{Instant, timeout_at};

use crate::shard::apply::plan;

/// How long a batch waits for further events at the end of the log.
const LINGER: Duration = Duration::from_millis(3);
/// Minimum interval between batches under steady load: each transaction costs the same however little it writes.
const COMMIT_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// How long a batch waits for events that the log has and that are on their way.
const PENDING_TIMEOUT: Duration = Duration::from_millis(50);

/// A run of contiguous events.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) events: Vec<StoredEvent>,
    /// Number of events that the log has behind these.
    pub(crate) pending: u64,
    /// Bytes of their payloads.
    pub(crate) bytes: usize,
    /// Why the reader gives no further events; those of the batch are valid all the same.
    pub(crate) read_error: Option<ReadError>,
}

impl Batch {
    /// The last event that the log is known to have.
    pub(crate) fn log_end_seq(&self) -> u64 {
        self.events.last().map_or(0, |last| last.seq + self.pending)
    }
}

/// Adds to the first event those that follow it closely, up to `events_max` events in all. `last_commit_at` is when
/// this process began its last transaction: all shards wait for the same moment, so that one transaction writes what they
/// have.
pub(crate) async fn collect_batch(
    reader: &mut LogReader,
    first: ReadEvent,
    last_commit_at: Instant,
    events_max: usize,
) -> Batch {
    let began_at = Instant::now();
    let linger_until = (began_at + LINGER).max(last_commit_at + COMMIT_INTERVAL_MIN);
    let bytes = first.stored.payload.len();
    let mut batch = Batch { events: vec![first.stored], pending: first.pending, bytes, read_error: None };
    while batch.events.len() < events_max && !plan::is_batch_full(batch.events.len(), batch.bytes) {
        let deadline = if batch.pending > 0 { began_at + PENDING_TIMEOUT } else { linger_until };
        match timeout_at(deadline, reader.next()).await {
            Ok(Ok(read)) => {
                batch.bytes += read.stored.payload.len();
                batch.pending = read.pending;
                batch.events.push(read.stored);
            }
            Ok(Err(error)) => {
                batch.read_error = Some(error);
                break;
            }
            Err(_) => break,
        }
    }
    batch
}
