//! Collects batches from the log.
//!
//! A batch holds the events that the log has at one moment. Under steady load these moments are
//! [`COMMIT_INTERVAL_MIN`] apart and the same for all shards, so that one transaction writes the events of all.

use std::time::Duration;

use log::{LogReader, ReadError, ReadEvent, StoredEvent};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::shard::apply::plan;

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

/// Waits until the next batch may be read, and returns its first event. `is_behind` tells that the log has more: then
/// nothing is gained by waiting. `last_commit_at` returns when this process began its last transaction.
pub(crate) async fn first_of_batch(
    reader: &mut LogReader,
    is_behind: bool,
    last_commit_at: impl Fn() -> Instant,
) -> Result<ReadEvent, ReadError> {
    if !is_behind {
        sleep_until(last_commit_at() + COMMIT_INTERVAL_MIN).await;
    }
    reader.next().await
}

/// Adds to the first event what else the log has, up to `events_max` events in all. A first event that came soon after
/// the last transaction waits for the moment of the next one.
pub(crate) async fn collect_batch(
    reader: &mut LogReader,
    first: ReadEvent,
    last_commit_at: Instant,
    events_max: usize,
) -> Batch {
    let next_commit_at = last_commit_at + COMMIT_INTERVAL_MIN;
    let answered_by = next_commit_at.max(Instant::now()) + PENDING_TIMEOUT;
    let bytes = first.stored.payload.len();
    let mut batch = Batch { events: vec![first.stored], pending: first.pending, bytes, read_error: None };
    while batch.events.len() < events_max && !plan::is_batch_full(batch.events.len(), batch.bytes) {
        let deadline = if reader.waits_for_next() { next_commit_at } else { answered_by };
        match timeout_at(deadline, reader.next_requested()).await {
            Ok(Ok(Some(read))) => {
                batch.bytes += read.stored.payload.len();
                batch.pending = read.pending;
                batch.events.push(read.stored);
            }
            Ok(Ok(None)) if Instant::now() < next_commit_at => {
                sleep_until(next_commit_at).await;
                if let Err(error) = reader.request_stored().await {
                    batch.read_error = Some(error);
                    break;
                }
            }
            Ok(Ok(None)) | Err(_) => break,
            Ok(Err(error)) => {
                batch.read_error = Some(error);
                break;
            }
        }
    }
    batch
}
