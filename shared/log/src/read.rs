//! Reads the events of a stream in order.
//!
//! What must hold: no event is skipped silently. The sequence of each message in its consumer is checked. A reader that
//! lost its consumer opens another one after the last event that it returned. An unfiltered reader reports every hole
//! in the stream.

use std::time::Duration;

use async_nats::jetstream::{
    Context,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::StoredEvent;
use protocol::{id::Shard, subject};

/// Maximum messages of a pull request.
const BATCH_MESSAGES_MAX: usize = 1_000;
/// Maximum bytes of a pull request.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Interval of heartbeats from the server; after twice as long without one, the consumer counts as lost.
const HEARTBEAT: Duration = Duration::from_secs(2);

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
    consumer: Option<OpenConsumer>,
}

struct OpenConsumer {
    jetstream: Context,
    consumer: PullConsumer,
    messages: pull::Stream,
    delivered: u64,
    pending: u64,
}

impl OpenConsumer {
    /// Asks how many events follow those that were received. Keeps the old number while delivered messages are still on
    /// their way.
    async fn refresh_pending(&mut self) -> anyhow::Result<()> {
        let info = self.consumer.get_info().await?;
        if info.delivered.consumer_sequence == self.delivered {
            self.pending = info.num_pending;
        }
        Ok(())
    }
}

impl Drop for OpenConsumer {
    /// Deletes the consumer, which the server would otherwise keep until `inactive_threshold` has passed.
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (jetstream, consumer) = (self.jetstream.clone(), self.consumer.clone());
        runtime.spawn(async move {
            let info = consumer.cached_info();
            // After an error the server removes the consumer later, or has lost it anyway.
            let _ = jetstream.delete_consumer_from_stream(&info.name, &info.stream_name).await;
        });
    }
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

    async fn open_consumer(&self) -> anyhow::Result<OpenConsumer> {
        let stream = self.jetstream.get_stream_no_info(subject::stream(self.shard)).await?;
        let consumer = stream
            .create_consumer(pull::Config {
                deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next_seq },
                ack_policy: AckPolicy::None,
                filter_subject: self.filter.clone().unwrap_or_default(),
                memory_storage: true,
                num_replicas: 1,
                inactive_threshold: Duration::from_secs(30),
                ..Default::default()
            })
            .await?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(BATCH_MESSAGES_MAX)
            .max_bytes_per_batch(BATCH_BYTES_MAX)
            .expires(Duration::from_secs(5))
            .heartbeat(HEARTBEAT)
            .messages()
            .await?;
        let pending = consumer.cached_info().num_pending;
        Ok(OpenConsumer { jetstream: self.jetstream.clone(), consumer, messages, delivered: 0, pending })
    }

    /// Returns the next event, and waits for it without limit. After an error the next call opens a new consumer at the
    /// same position. Cancel safe: no event is lost.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn next(&mut self) -> Result<ReadEvent, ReadError> {
        let result = self.read_next().await;
        if result.is_err() {
            self.consumer = None;
        }
        result
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

    async fn open_if_closed(&mut self) -> Result<&mut OpenConsumer, ReadError> {
        if self.consumer.is_none() {
            self.consumer = Some(self.open_consumer().await.map_err(ReadError::Unreadable)?);
        }
        Ok(self.consumer.as_mut().expect("the consumer was opened above"))
    }

    async fn read_next(&mut self) -> Result<ReadEvent, ReadError> {
        let unreadable = |error: async_nats::Error| ReadError::Unreadable(anyhow::anyhow!(error));
        self.open_if_closed().await?;
        let consumer = self.consumer.as_mut().expect("the consumer was opened above");
        let message = match consumer.messages.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(unreadable(error.into())),
            None => return Err(ReadError::Unreadable(anyhow::anyhow!("the consumer ended"))),
        };
        let info = message.info().map_err(unreadable)?;
        consumer.delivered += 1;
        if info.consumer_sequence != consumer.delivered {
            // An earlier message was lost on its way: a new consumer reads it again.
            let error = anyhow::anyhow!("message {} of the consumer was lost", consumer.delivered);
            return Err(ReadError::Unreadable(error));
        }
        let (seq, pending, time) = (info.stream_sequence, info.pending, info.published);
        if self.filter.is_none() && seq != self.next_seq {
            return Err(ReadError::Hole { expected: self.next_seq, got: seq });
        }
        consumer.pending = pending;
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
