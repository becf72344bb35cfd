//! Reads a stream in order, for as long as it takes.
//!
//! What must hold: nothing is skipped in silence. Each message's place in the consumer is
//! checked, a reader that lost its consumer opens another one after the last message it gave, and
//! an unfiltered reader reports every hole in the stream.

use std::time::Duration;

use async_nats::jetstream::{
    Context,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::StoredEvent;
use protocol::{id::Shard, subject};

/// How many messages are asked for at once.
const BATCH_MESSAGES_MAX: usize = 1_000;
/// Bytes that may be on their way to us.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// A server that is silent for twice that long has lost the consumer.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How long an event that is there is waited for before the server is asked whether it still is. It doubles
/// with each time,
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// up to this, which is the last time.
const LAST_WAIT: Duration = Duration::from_secs(4);

/// One event, and how much is behind it.
#[derive(Clone, Debug)]
pub struct ReadEvent {
    /// The event.
    pub stored: StoredEvent,
    /// How many more the server has for this reader.
    pub pending: u64,
}

/// Why reading stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream has not what should come next.
    #[error("the log has no {expected}: it goes on at {got}")]
    Hole {
        /// What should have come.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// The server is not reachable, or refuses: trying again may help.
    #[error("the log is not readable: {0}")]
    Broken(anyhow::Error),
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
    /// Asks how much is behind what has come. What was delivered and has not come is on its way still.
    async fn refresh_pending(&mut self) -> anyhow::Result<()> {
        let info = self.consumer.get_info().await?;
        if info.delivered.consumer_sequence == self.delivered {
            self.pending = info.num_pending;
        }
        Ok(())
    }
}

impl Drop for OpenConsumer {
    /// The server would keep the consumer until it has been unused for long.
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (jetstream, consumer) = (self.jetstream.clone(), self.consumer.clone());
        runtime.spawn(async move {
            let info = consumer.cached_info();
            // It is gone with its server, or is removed after a while.
            let _ = jetstream.delete_consumer_from_stream(&info.name, &info.stream_name).await;
        });
    }
}

impl LogReader {
    /// A reader from `from` on; of the subjects that `filter` matches, where given. It connects
    /// when first read.
    #[must_use]
    pub fn open(jetstream: Context, shard: Shard, filter: Option<String>, from: u64) -> Self {
        Self { jetstream, shard, filter, next_seq: from.max(1), consumer: None }
    }

    /// The sequence from which the next event comes.
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

    /// The next event; waits for it as long as it takes. After an error the next call opens a new
    /// consumer where this one stopped. Cancel safe: an event is given or stays to come.
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

    /// The next event of those that are there already; `None` at their end. A replica that lags ends early.
    ///
    /// # Errors
    /// [`ReadError`]; also where an event that is there does not come within some seconds.
    pub async fn next_stored(&mut self) -> Result<Option<ReadEvent>, ReadError> {
        let mut wait = FIRST_WAIT;
        while self.open_if_closed().await?.pending > 0 {
            match timeout(wait, self.next()).await {
                Ok(read) => return read.map(Some),
                Err(_) if wait >= LAST_WAIT => {
                    self.consumer = None;
                    let late = anyhow::anyhow!("no event came for {} s", wait.as_secs());
                    return Err(ReadError::Broken(late));
                }
                Err(_) => wait *= 2,
            }
            // What was there may have been trimmed before it came.
            if let Err(error) = self.open_if_closed().await?.refresh_pending().await {
                self.consumer = None;
                return Err(ReadError::Broken(error));
            }
        }
        Ok(None)
    }

    async fn open_if_closed(&mut self) -> Result<&mut OpenConsumer, ReadError> {
        if self.consumer.is_none() {
            self.consumer = Some(self.open_consumer().await.map_err(ReadError::Broken)?);
        }
        Ok(self.consumer.as_mut().expect("opened above"))
    }

    async fn read_next(&mut self) -> Result<ReadEvent, ReadError> {
        let broken = |error: async_nats::Error| ReadError::Broken(anyhow::anyhow!(error));
        self.open_if_closed().await?;
        let open = self.consumer.as_mut().expect("ready above");
        let message = match open.messages.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(broken(error.into())),
            None => return Err(ReadError::Broken(anyhow::anyhow!("the consumer ended"))),
        };
        let info = message.info().map_err(broken)?;
        open.delivered += 1;
        if info.consumer_sequence != open.delivered {
            // A message between was lost on the way to us: read it again.
            let lost = anyhow::anyhow!("message {} of the consumer was lost", open.delivered);
            return Err(ReadError::Broken(lost));
        }
        let (seq, pending, time) = (info.stream_sequence, info.pending, info.published);
        if self.filter.is_none() && seq != self.next_seq {
            return Err(ReadError::Hole { expected: self.next_seq, got: seq });
        }
        open.pending = pending;
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
