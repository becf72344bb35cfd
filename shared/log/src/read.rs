//! Reading a stream in order, for as long as it takes.
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
const BATCH: usize = 1_000;
/// Bytes that may be on their way to us.
const BATCH_BYTES: usize = 4 << 20;
/// A server that is silent for twice that long has lost the consumer.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How long an event that is there is waited for before the server is asked whether it still is. It doubles
/// with each time,
const QUIET: Duration = Duration::from_millis(500);
/// up to this, which is the last time.
const QUIET_MAX: Duration = Duration::from_secs(4);

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
    next: u64,
    open: Option<OpenConsumer>,
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
    async fn ask_pending(&mut self) -> anyhow::Result<()> {
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
        Self { jetstream, shard, filter, next: from.max(1), open: None }
    }

    /// The sequence from which the next event comes.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.next
    }

    async fn connect(&self) -> anyhow::Result<OpenConsumer> {
        let stream = self.jetstream.get_stream_no_info(subject::stream(self.shard)).await?;
        let consumer = stream
            .create_consumer(pull::Config {
                deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next },
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
            .max_messages_per_batch(BATCH)
            .max_bytes_per_batch(BATCH_BYTES)
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
        let result = self.advance().await;
        if result.is_err() {
            self.open = None;
        }
        result
    }

    /// The next event of those that are there already; `None` at their end. A replica that lags ends early.
    ///
    /// # Errors
    /// [`ReadError`]; also where an event that is there does not come within some seconds.
    pub async fn next_stored(&mut self) -> Result<Option<ReadEvent>, ReadError> {
        let mut patience = QUIET;
        while self.ready().await?.pending > 0 {
            match timeout(patience, self.next()).await {
                Ok(read) => return read.map(Some),
                Err(_) if patience >= QUIET_MAX => {
                    self.open = None;
                    let late = anyhow::anyhow!("no event came for {} s", patience.as_secs());
                    return Err(ReadError::Broken(late));
                }
                Err(_) => patience *= 2,
            }
            // What was there may have been trimmed before it came.
            if let Err(error) = self.ready().await?.ask_pending().await {
                self.open = None;
                return Err(ReadError::Broken(error));
            }
        }
        Ok(None)
    }

    async fn ready(&mut self) -> Result<&mut OpenConsumer, ReadError> {
        if self.open.is_none() {
            self.open = Some(self.connect().await.map_err(ReadError::Broken)?);
        }
        Ok(self.open.as_mut().expect("opened above"))
    }

    async fn advance(&mut self) -> Result<ReadEvent, ReadError> {
        let broken = |error: async_nats::Error| ReadError::Broken(anyhow::anyhow!(error));
        self.ready().await?;
        let open = self.open.as_mut().expect("ready above");
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
        if self.filter.is_none() && seq != self.next {
            return Err(ReadError::Hole { expected: self.next, got: seq });
        }
        open.pending = pending;
        self.next = seq + 1;
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
