//! Reads a stream through a consumer of its own, request by request.
//!
//! A reader that has time lets messages gather, and asks for all that the stream has: that costs the server and the
//! reader two wake-ups, where a request that stays open costs as much for each message. Where nothing has gathered, it
//! asks for the next few messages, which the server sends as they come.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use async_nats::{
    StatusCode, Subject, Subscriber,
    jetstream::{
        Context, Message,
        consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
    },
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use protocol::{id::Shard, subject};

/// Asks for what the stream has: at most 1,000 messages, and 4 MiB.
const STORED: (&[u8], usize) = (br#"{"batch":1000,"max_bytes":4194304,"no_wait":true}"#, 1_000);
/// Asks for the next 4 messages, within 10 s.
const NEXT_FEW: (&[u8], usize) = (br#"{"batch":4,"max_bytes":4194304,"expires":10000000000}"#, 4);
/// How long nothing may come while a request is open: it ends after 10 s at the latest.
const SILENCE_MAX: Duration = Duration::from_secs(13);
/// After how long without a request the server removes the consumer.
const INACTIVE_THRESHOLD: Duration = Duration::from_secs(30);

/// A consumer and its requests.
pub(super) struct LogConsumer {
    jetstream: Context,
    consumer: PullConsumer,
    request_subject: String,
    inbox: Subject,
    answers: Subscriber,
    /// Number of messages that the open request may still bring; 0 if none is open.
    request_left: usize,
    /// Whether the last request was for the next few messages.
    is_for_next: bool,
    /// Number of messages received.
    delivered: u64,
    /// Number of messages that follow, as of the last one.
    pub(super) pending: u64,
}

impl LogConsumer {
    /// Creates a consumer that begins with sequence `from`.
    pub(super) async fn create(
        jetstream: &Context,
        shard: Shard,
        filter: Option<&str>,
        from: u64,
    ) -> anyhow::Result<Self> {
        let client = jetstream.client();
        let inbox = Subject::from(client.new_inbox());
        let answers = client.subscribe(inbox.clone()).await?;
        let stream = jetstream.get_stream_no_info(subject::stream(shard)).await?;
        let consumer = stream
            .create_consumer(pull::Config {
                deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
                ack_policy: AckPolicy::None,
                filter_subject: filter.unwrap_or_default().to_owned(),
                memory_storage: true,
                num_replicas: 1,
                inactive_threshold: INACTIVE_THRESHOLD,
                ..Default::default()
            })
            .await?;
        let info = consumer.cached_info();
        Ok(Self {
            request_subject: format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", info.stream_name, info.name),
            pending: info.num_pending,
            jetstream: jetstream.clone(),
            consumer,
            inbox,
            answers,
            request_left: 0,
            is_for_next: false,
            delivered: 0,
        })
    }

    /// Whether a request is open.
    pub(super) const fn is_requested(&self) -> bool {
        self.request_left > 0
    }

    /// Whether the open request waits for messages that the stream has not got yet.
    pub(super) const fn waits_for_next(&self) -> bool {
        self.is_requested() && self.is_for_next
    }

    /// Asks for what the stream has.
    pub(super) async fn request_stored(&mut self) -> anyhow::Result<()> {
        self.request(STORED).await?;
        self.is_for_next = false;
        Ok(())
    }

    /// Asks for the next few messages, whenever they come.
    pub(super) async fn request_next(&mut self) -> anyhow::Result<()> {
        self.request(NEXT_FEW).await?;
        self.is_for_next = true;
        Ok(())
    }

    async fn request(&mut self, (body, messages): (&'static [u8], usize)) -> anyhow::Result<()> {
        let (client, subject) = (self.jetstream.client(), self.request_subject.clone());
        client.publish_with_reply(subject, self.inbox.clone(), Bytes::from_static(body)).await?;
        self.request_left = messages;
        Ok(())
    }

    /// Returns the next message of the open request; `None` once the request has brought all.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Message>> {
        while self.is_requested() {
            let answer = timeout(SILENCE_MAX, self.answers.next()).await;
            let message = answer.context("the consumer does not answer")?.context("the consumer ended")?;
            match message.status {
                None | Some(StatusCode::OK) => {
                    self.request_left -= 1;
                    return self.take(message).map(Some);
                }
                Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => self.request_left = 0,
                Some(status) => {
                    let description = message.description.unwrap_or_default();
                    // The next message does not fit into the request's bytes.
                    if !description.contains("MaxBytes") {
                        bail!("the consumer answers {status}: {description}");
                    }
                    self.request_left = 0;
                }
            }
        }
        Ok(None)
    }

    fn take(&mut self, message: async_nats::Message) -> anyhow::Result<Message> {
        let message = Message { message, context: self.jetstream.clone() };
        let info = message.info().map_err(|error| anyhow::anyhow!(error))?;
        self.delivered += 1;
        // An earlier message was lost on its way: a new consumer reads it again.
        ensure!(
            info.consumer_sequence == self.delivered,
            "message {} of the consumer was lost",
            self.delivered
        );
        self.pending = info.pending;
        Ok(message)
    }

    /// Asks how many messages follow those that were received. Keeps the old number while delivered messages are still
    /// on their way.
    pub(super) async fn refresh_pending(&mut self) -> anyhow::Result<()> {
        let info = self.consumer.get_info().await?;
        if info.delivered.consumer_sequence == self.delivered {
            self.pending = info.num_pending;
        }
        Ok(())
    }
}

impl Drop for LogConsumer {
    /// Deletes the consumer, which the server would otherwise keep until [`INACTIVE_THRESHOLD`] has passed.
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
