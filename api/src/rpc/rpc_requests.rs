//! Receives the requests that the broker routes to this node from a subject shared by all api nodes.
//!
//! What must hold: once the node stops, the broker routes no further request to it, and the node receives every
//! request that was routed before. So the subscription ends at the broker first, and in the client only after all
//! requests have arrived.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// The queue group of all api nodes, of older versions too.
const QUEUE_GROUP: &str = "q";
/// More messages than any subscription gets.
///
/// An UNSUB with a limit leaves the client's half of the subscription open until that many messages have arrived. The
/// broker, which reads no limit of more than nine digits, ends its half at once. `drain` of the client library and a
/// plain UNSUB close both halves together, and lose messages in transit. A broker that did read the limit would go on
/// routing until [`STOP_TIMEOUT`] is over.
const UNREACHABLE_MESSAGE_COUNT: u64 = u64::MAX;
/// If no request arrives for this long after the UNSUB, none is in transit.
const QUIET_PERIOD: Duration = Duration::from_millis(300);
/// Maximum time for which a stopping node receives requests: shorter than the time after which fan-out asks another
/// node.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The requests of one subject.
pub(super) struct RpcRequests {
    subscriber: Subscriber,
    /// Set once the node stops: when it stops receiving.
    stop_at: Option<Instant>,
}

impl RpcRequests {
    /// Subscribes in the queue group, so that the broker routes a share of the subject's requests to this node.
    pub(super) async fn subscribe(client: &Client, subject: &'static str) -> anyhow::Result<Self> {
        let subscriber = client.queue_subscribe(subject, QUEUE_GROUP.to_owned()).await?;
        Ok(Self { subscriber, stop_at: None })
    }

    /// Returns the next request; `None` once the node stops and has received everything routed to it.
    ///
    /// # Errors
    /// Fails if the connection is closed for good.
    pub(super) async fn next(&mut self, stop: &CancellationToken) -> anyhow::Result<Option<Message>> {
        let end = match self.stop_at {
            Some(end) => end,
            None => {
                tokio::select! {
                    request = self.subscriber.next() => {
                        return request.map(Some).context("the connection to the broker is closed");
                    }
                    () = stop.cancelled() => {}
                }
                self.subscriber.unsubscribe_after(UNREACHABLE_MESSAGE_COUNT).await?;
                *self.stop_at.insert(Instant::now() + STOP_TIMEOUT)
            }
        };
        let quiet = end.min(Instant::now() + QUIET_PERIOD);
        Ok(timeout_at(quiet, self.subscriber.next()).await.ok().flatten())
    }
}
