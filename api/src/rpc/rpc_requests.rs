//! Receives the requests on a subject that the broker routes to this node, one of several.
//!
//! What must hold: once the node is told to stop the broker routes nothing more to it, and what it has routed
//! until then is heard. So the subscription ends at the broker first, and here only once all of it has come.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// All api nodes share a subject's requests under this name, older ones too.
const QUEUE_GROUP: &str = "q";
/// More requests than a subscription ever gets.
///
/// An UNSUB with a limit leaves the client's half open until that many have come, while the broker, which reads
/// no limit of more than nine digits, ends its half at once. `drain` of the client library and a plain UNSUB
/// close both together, and what is on its way then is lost. A broker that did read it would go on routing
/// until [`STOP_TIMEOUT`] is over.
const UNREACHABLE_MESSAGE_COUNT: u64 = u64::MAX;
/// Nothing has come for that long after the broker was told: nothing more comes.
const QUIET_PERIOD: Duration = Duration::from_millis(300);
/// How long a node that stops hears requests at most: shorter than fan-out waits before it asks another node.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A subject's requests.
pub(super) struct RpcRequests {
    subscriber: Subscriber,
    /// Once the node stops: when it ceases to hear.
    stop_at: Option<Instant>,
}

impl RpcRequests {
    /// Has the broker route a part of a subject's requests to this node.
    pub(super) async fn subscribe(client: &Client, subject: &'static str) -> anyhow::Result<Self> {
        let subscriber = client.queue_subscribe(subject, QUEUE_GROUP.to_owned()).await?;
        Ok(Self { subscriber, stop_at: None })
    }

    /// The next request. `None` once the node was told to stop and has heard all that was routed to it.
    ///
    /// # Errors
    /// When the connection is gone for good.
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
