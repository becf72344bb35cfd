//! Limits how many requests of a subject are handled and wait at a time.

use std::{sync::Arc, time::Duration};

use async_nats::Subject;
use bytes::Bytes;
use metrics::Histogram;
use protocol::error::{Error, ErrorCode};
use service::metric_names as names;
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout},
};

use super::{answer_request, encode_reply};
use crate::{commands::state::CommandState, page};

/// Maximum requests of a subject that are handled at a time.
const CONCURRENT_REQUESTS_MAX: usize = 1_024;
/// How long further requests wait: the fan-out node gives up an attempt not long after that.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum requests of a subject that are handled or wait; more are refused at once.
const QUEUED_REQUESTS_MAX: u32 = 16 * 1_024;
/// How long a stopping node waits for the requests it handles: as long as a request is valid.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A request of a fan-out node.
pub(super) struct RpcRequest {
    pub(super) payload: Bytes,
    pub(super) sender: RequestSender,
}

/// The fan-out node that sent a request, to which the answer goes.
pub(super) enum RequestSender {
    /// A fan-out node that waits at this subject of the broker; `None` if it wants no answer.
    Remote(Option<Subject>),
    /// The fan-out node of this process.
    Local(oneshot::Sender<Bytes>),
}

/// The requests of one subject, whoever sent them.
#[derive(Clone)]
pub(super) struct RpcQueue {
    api: Arc<CommandState>,
    pub(super) subject: &'static str,
    worker_permits: Arc<Semaphore>,
    queue_permits: Arc<Semaphore>,
    seconds: Histogram,
}

impl RpcQueue {
    pub(super) fn new(api: Arc<CommandState>, subject: &'static str) -> Self {
        Self {
            api,
            subject,
            worker_permits: Arc::new(Semaphore::new(CONCURRENT_REQUESTS_MAX)),
            queue_permits: Arc::new(Semaphore::new(QUEUED_REQUESTS_MAX as usize)),
            seconds: metrics::histogram!(names::RPC_SERVED_SECONDS),
        }
    }

    /// Handles a request in a task of its own.
    ///
    /// # Errors
    /// Returns the request if too many wait; [`Self::refuse`] answers it.
    pub(super) fn accept(&self, request: RpcRequest) -> Result<(), RpcRequest> {
        let Ok(queue_permit) = self.queue_permits.clone().try_acquire_owned() else { return Err(request) };
        let queue = self.clone();
        tokio::spawn(async move {
            match timeout(QUEUE_TIMEOUT, queue.worker_permits.acquire()).await {
                Ok(_permit) => queue.handle(request).await,
                Err(_) => queue.refuse(request).await,
            }
            drop(queue_permit);
        });
        Ok(())
    }

    async fn handle(&self, request: RpcRequest) {
        let started = Instant::now();
        let answer = answer_request(&self.api, self.subject, &request.payload).await;
        self.seconds.record(started.elapsed().as_secs_f64());
        self.send(request.sender, answer).await;
    }

    /// Refuses a request at once: a late answer would reach nobody, and the fan-out node would send the request again.
    pub(super) async fn refuse(&self, request: RpcRequest) {
        metrics::counter!(names::RPC_REFUSED_TOTAL).increment(1);
        let busy = Error::new(ErrorCode::Unavailable, "This node is overloaded. Try again.");
        self.send(request.sender, encode_reply::<()>(&Err(busy))).await;
    }

    /// Sends a reply; sends an error instead of a reply that is larger than the broker accepts. The client library
    /// would refuse that reply, and the fan-out node would wait in vain and ask again.
    async fn send(&self, sender: RequestSender, mut bytes: Vec<u8>) {
        let client = &self.api.log.nats_client;
        if bytes.len() > page::reply_max_bytes(client.max_payload()) {
            metrics::counter!(names::ANSWERS_TOO_LARGE_TOTAL, "way" => "rpc").increment(1);
            tracing::warn!(
                subject = self.subject,
                bytes = bytes.len(),
                "a reply is too large; sending an error"
            );
            bytes = encode_reply::<()>(&Err(page::too_large_error()));
        }
        match sender {
            RequestSender::Remote(Some(inbox)) => {
                if let Err(error) = client.publish(inbox, bytes.into()).await {
                    tracing::warn!(%error, "could not answer a request of a fan-out node; the node asks again");
                }
            }
            RequestSender::Remote(None) => {}
            // The socket that asked may be closed.
            RequestSender::Local(waiting) => drop(waiting.send(bytes.into())),
        }
    }

    /// Waits until no request is being handled any more, or [`DRAIN_TIMEOUT`] is over.
    pub(super) async fn drain(&self) {
        let _finished = timeout(DRAIN_TIMEOUT, self.queue_permits.acquire_many(QUEUED_REQUESTS_MAX)).await;
    }
}
