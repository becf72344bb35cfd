//! Reads the events of a stream in order.
//!
//! What must hold: no event is skipped silently. The sequence of each message in its consumer is checked. A reader that
//! lost its consumer opens another one after the last event that it returned. An unfiltered reader reports every hole
//! in the stream.

mod pull;

use std::time::Duration;

use async_nats::jetstream::Context;
use tokio::time::timeout;

use self::pull::LogConsumer;
use super::StoredEvent;
use protocol::id::Shard;

/// First wait for an event that the stream has, before the server is asked whether it still has it. Each further wait
/// is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest of these waits, after which reading fails.
const LAST_WAIT: Duration = Duration::from_secs(4);

/// An event, and how many events follow it.
#[derive(Clone, Debug)]
pub struct ReadEvent {
    /// The event.
    pub stored: StoredEvent,
    /// Number of events that the server still has for this reader.
    pub pending: u64,
}

/// Why reading failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream lacks the next event.
    #[error("the log has no event {expected}: it continues with {got}")]
    Hole {
        /// The sequence that was expected.
        expected: u64,
        /// The sequence that was received.
        got: u64,
    },
    /// The server is not reachable, or refuses: a retry may help.
    #[error("the log is not readable: {0}")]
    Unreadable(anyhow::Error),
}

/// Reads one shard in order.
pub struct LogReader {
    jetstream: Context,
    shard: Shard,
    filter: Option<String>,
    next_seq: u64,
    consumer: Option<LogConsumer>,
}

impl LogReader {
    /// Creates a reader that begins with sequence `from`. With a filter it reads only matching subjects. It connects at
    /// the first read.
    #[must_use]
    pub fn open(jetstream: Context, shard: Shard, filter: Option<String>, from: u64) -> Self {
        Self { jetstream, shard, filter, next_seq: from.max(1), consumer: None }
    }

    /// The sequence from which the next event is read.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.next_seq
    }

    /// Returns the next event, and waits for it without limit. After an error the next call opens a new consumer at the
    /// same position. Cancel safe: no event is lost.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn next(&mut self) -> Result<ReadEvent, ReadError> {
        loop {
            if let Some(read) = self.next_requested().await? {
                return Ok(read);
            }
            self.request_stored().await?;
            if let Some(read) = self.next_requested().await? {
                return Ok(read);
            }
            let requested = self.open_if_closed().await?.request_next().await;
            self.close_after_error(requested)?;
        }
    }

    /// Asks for the events that the stream has already. [`Self::next_requested`] returns them.
    ///
    /// # Errors
    /// [`ReadError::Unreadable`].
    pub async fn request_stored(&mut self) -> Result<(), ReadError> {
        let requested = self.open_if_closed().await?.request_stored().await;
        self.close_after_error(requested)
    }

    /// Whether [`Self::next_requested`] waits for events that the stream has not got yet.
    #[must_use]
    pub fn waits_for_next(&self) -> bool {
        self.consumer.as_ref().is_some_and(LogConsumer::waits_for_next)
    }

    /// Returns the next event of the last request, also of one that [`Self::next`] has made; `None` once it has brought
    /// all. Cancel safe.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn next_requested(&mut self) -> Result<Option<ReadEvent>, ReadError> {
        let Some(consumer) = &mut self.consumer else { return Ok(None) };
        let read = match consumer.next().await {
            Ok(None) => return Ok(None),
            Ok(Some(message)) => self.check(message),
            Err(error) => Err(ReadError::Unreadable(error)),
        };
        if read.is_err() {
            self.consumer = None;
        }
        read.map(Some)
    }

    /// Returns the next event that the stream has already; `None` at its end. On a replica that lags the end may come
    /// early.
    ///
    /// # Errors
    /// [`ReadError`]; also if an event that the stream has does not arrive within some seconds.
    pub async fn next_stored(&mut self) -> Result<Option<ReadEvent>, ReadError> {
        let mut wait = FIRST_WAIT;
        while self.open_if_closed().await?.pending > 0 {
            match timeout(wait, self.next()).await {
                Ok(read) => return read.map(Some),
                Err(_) if wait >= LAST_WAIT => {
                    self.consumer = None;
                    let error = anyhow::anyhow!("no event arrived for {} s", wait.as_secs());
                    return Err(ReadError::Unreadable(error));
                }
                Err(_) => wait *= 2,
            }
            // The event may have been trimmed before it arrived.
            if let Err(error) = self.open_if_closed().await?.refresh_pending().await {
                self.consumer = None;
                return Err(ReadError::Unreadable(error));
            }
        }
        Ok(None)
    }

    async fn open_if_closed(&mut self) -> Result<&mut LogConsumer, ReadError> {
        if self.consumer.is_none() {
            let created =
                LogConsumer::create(&self.jetstream, self.shard, self.filter.as_deref(), self.next_seq);
            self.consumer = Some(created.await.map_err(ReadError::Unreadable)?);
        }
        Ok(self.consumer.as_mut().expect("the consumer was opened above"))
    }

    fn close_after_error(&mut self, requested: anyhow::Result<()>) -> Result<(), ReadError> {
        if requested.is_err() {
            self.consumer = None;
        }
        requested.map_err(ReadError::Unreadable)
    }

    /// Checks that no event is missing before this one.
    fn check(&mut self, message: async_nats::jetstream::Message) -> Result<ReadEvent, ReadError> {
        let info = message.info().map_err(|error| ReadError::Unreadable(anyhow::anyhow!(error)))?;
        let (seq, pending, time) = (info.stream_sequence, info.pending, info.published);
        if self.filter.is_none() && seq != self.next_seq {
            return Err(ReadError::Hole { expected: self.next_seq, got: seq });
        }
        self.next_seq = seq + 1;
        let (message, _) = message.split();
        let stored = StoredEvent {
            shard: self.shard,
            seq,
            subject: message.subject.into_string(),
            headers: message.headers.unwrap_or_default(),
            payload: message.payload,
            time,
        };
        Ok(ReadEvent { stored, pending })
    }
}
