//! Sends requests to api: to the node of this process if there is one and it takes them, else over the broker. Each has
//! one deadline, and is sent again once if it is not answered.
//!
//! What must hold: the second attempt carries the same key, so that api does an action once however often it gets it.
//! Api does nothing for a request after its deadline. If the first attempt of an action was not answered, a refusal of
//! the second with 429 or 5xx is reported as `outcome_unknown`: the first may have been stored.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{Client, RequestErrorKind};
use bytes::Bytes;
use metrics::Histogram;
use protocol::{
    error::{Error, ErrorCode},
    event::Person,
    rpc::{
        ActionReply, ActionRequest, ConfirmChannelsRequest, ConfirmReply, ConfirmRequest, HelloRequest,
        ParticipantsReply, ParticipantsRequest, PresenceRequest, RpcResult, SignalRequest, expiry, time_left,
    },
    subject::rpc,
};
use serde::{Serialize, de::DeserializeOwned};
use service::{local_api::LocalApi, metric_names as names, token::Identity};
use tokio::time::{Instant, timeout};

/// Timeout of the first attempt. The second one has the rest of the deadline.
const FIRST_ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Pause before the next attempt if no api node listens. Such attempts are repeated until the deadline.
const NO_RESPONDERS_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// How long channels are confirmed one by one after no api node listened for requests about several.
const BUNDLING_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Sends requests to api.
#[derive(Clone)]
pub(crate) struct ApiClient {
    client: Client,
    local: Option<Arc<dyn LocalApi>>,
    seconds: Histogram,
    /// When a request about several channels last found no api node that listens for it.
    unbundled_since: Arc<Mutex<Option<Instant>>>,
}

/// The state of the attempts of one request.
#[derive(Default)]
struct Attempts {
    /// Number of attempts that failed although a node may have received them, mostly by a timeout.
    unanswered: u32,
    /// Whether to give up at once if no node listens.
    ends_without_responders: bool,
    /// Whether no node listened at the last attempt.
    had_no_responders: bool,
}

impl ApiClient {
    /// Creates a client that sends over this connection what the api node of this process does not take.
    pub(crate) fn new(client: Client, local: Option<Arc<dyn LocalApi>>) -> Self {
        Self {
            client,
            local,
            seconds: metrics::histogram!(names::RPC_SECONDS),
            unbundled_since: Arc::default(),
        }
    }

    /// Has api decide an action of a socket.
    pub(crate) async fn action(&self, request: &ActionRequest) -> RpcResult<ActionReply> {
        let (reply, attempts) =
            self.request_measured(rpc::ACTION, request, request.expires_at, Attempts::default()).await;
        if attempts.unanswered > 0 { after_unanswered_attempt(reply) } else { reply }
    }

    /// Has api store what a token says about its person, if it says anything. A socket is accepted, and a new token
    /// acknowledged, only after that.
    pub(crate) async fn store_person(&self, identity: &Identity) -> RpcResult<()> {
        if identity.person == Person::default() {
            return Ok(());
        }
        let request = HelloRequest {
            user: identity.caller.user.clone(),
            issued_at: identity.issued_at,
            person: identity.person.clone(),
            expires_at: expiry(),
        };
        self.request(rpc::HELLO, &request, request.expires_at).await
    }

    /// Has api append joins and leaves. The answer has a result for each change, in their order.
    pub(crate) async fn publish_presence(&self, request: &PresenceRequest) -> RpcResult<Vec<RpcResult<()>>> {
        self.request(rpc::PRESENCE, request, request.expires_at).await
    }

    /// Reads the participants of a room.
    pub(crate) async fn participants(&self, request: &ParticipantsRequest) -> RpcResult<ParticipantsReply> {
        self.request(rpc::PARTICIPANTS, request, request.expires_at).await
    }

    /// Asks which people may no longer be in a room, or follow a team.
    pub(crate) async fn confirm_access(&self, request: &ConfirmRequest) -> RpcResult<ConfirmReply> {
        self.request(rpc::CONFIRM, request, request.expires_at).await
    }

    /// Asks [`ApiClient::confirm_access`] for several channels in one request. `None` if no api node listens for such
    /// requests: all of them are of an older version, or none is reachable.
    pub(crate) async fn confirm_channels(
        &self,
        request: &ConfirmChannelsRequest,
    ) -> Option<RpcResult<Vec<RpcResult<ConfirmReply>>>> {
        if !self.is_bundling_supported() {
            return None;
        }
        let attempts = Attempts { ends_without_responders: true, ..Attempts::default() };
        let (reply, attempts) =
            self.request_measured(rpc::CONFIRM_CHANNELS, request, request.expires_at, attempts).await;
        if attempts.had_no_responders {
            *self.lock_bundling() = Some(Instant::now());
            return None;
        }
        Some(reply)
    }

    /// False for [`BUNDLING_RETRY_INTERVAL`] after [`ApiClient::confirm_channels`] found no api node that listens.
    fn is_bundling_supported(&self) -> bool {
        self.lock_bundling().is_none_or(|since| since.elapsed() >= BUNDLING_RETRY_INTERVAL)
    }

    fn lock_bundling(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unbundled_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whether a person may send signals to another; the answer is an error if not.
    pub(crate) async fn require_signal(&self, request: &SignalRequest) -> RpcResult<()> {
        self.request(rpc::SIGNAL, request, request.expires_at).await
    }

    async fn request<T: DeserializeOwned>(
        &self,
        subject: &'static str,
        request: &impl Serialize,
        expires_at: i64,
    ) -> RpcResult<T> {
        self.request_measured(subject, request, expires_at, Attempts::default()).await.0
    }

    /// Sends a request, and records its duration and its error as metrics.
    async fn request_measured<T: DeserializeOwned>(
        &self,
        subject: &'static str,
        request: &impl Serialize,
        expires_at: i64,
        mut attempts: Attempts,
    ) -> (RpcResult<T>, Attempts) {
        let started = Instant::now();
        let reply = self.request_with_retry(subject, request, expires_at, &mut attempts).await;
        self.seconds.record(started.elapsed().as_secs_f64());
        if let Err(error) = &reply {
            metrics::counter!(names::RPC_ERRORS_TOTAL, "code" => error.code.as_str()).increment(1);
        }
        (reply, attempts)
    }

    /// Sends a request once, and waits for its answer for up to `limit`.
    async fn attempt(
        &self,
        subject: &'static str,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Bytes, RequestErrorKind> {
        if let Some(answer) = self.local.as_ref().and_then(|api| api.request(subject, payload.clone())) {
            let answered = timeout(limit, answer).await.ok().and_then(Result::ok);
            return answered.ok_or(RequestErrorKind::TimedOut);
        }
        let request = async_nats::Request::new().payload(payload).timeout(Some(limit));
        let sent = self.client.send_request(subject, request).await;
        sent.map(|answer| answer.payload).map_err(|error| error.kind())
    }

    async fn request_with_retry<T: DeserializeOwned>(
        &self,
        subject: &'static str,
        request: &impl Serialize,
        expires_at: i64,
        attempts: &mut Attempts,
    ) -> RpcResult<T> {
        let payload: Bytes = serde_json::to_vec(request).map_err(|e| Error::internal(&e))?.into();
        while let Some(remaining) = time_left(expires_at) {
            let limit =
                if attempts.unanswered == 0 { remaining.min(FIRST_ATTEMPT_TIMEOUT) } else { remaining };
            match self.attempt(subject, payload.clone(), limit).await {
                Ok(answer) => {
                    attempts.had_no_responders = false;
                    return serde_json::from_slice(&answer).map_err(|e| Error::internal(&e))?;
                }
                Err(RequestErrorKind::NoResponders) => {
                    attempts.had_no_responders = true;
                    if attempts.ends_without_responders {
                        break;
                    }
                    tokio::time::sleep(NO_RESPONDERS_RETRY_INTERVAL).await;
                }
                Err(_) if attempts.unanswered == 1 => break,
                Err(_) => {
                    attempts.unanswered += 1;
                    metrics::counter!(names::RPC_RETRIES_TOTAL).increment(1);
                }
            }
        }
        let detail = match attempts.unanswered {
            0 => "No api node is reachable now. Try again.",
            _ => "No api node has answered in time. Try again.",
        };
        Err(Error::new(ErrorCode::Unavailable, detail))
    }
}

/// Turns the reply to the second attempt of an action into its result. The node that got the first attempt may still do
/// the action until the deadline, so a refusal that invites a retry does not mean that nothing was stored.
fn after_unanswered_attempt(reply: RpcResult<ActionReply>) -> RpcResult<ActionReply> {
    let status = match &reply {
        Ok(reply) => reply.status,
        Err(error) => error.code.status(),
    };
    let may_be_tried_again = status == 429 || status >= 500;
    if !may_be_tried_again {
        return reply;
    }
    let detail = "No answer in time. Try again under the same client_id.";
    Err(Error::new(ErrorCode::OutcomeUnknown, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply_with(status: u16) -> RpcResult<ActionReply> {
        Ok(ActionReply { status, data: None, errors: vec![], effect: None })
    }

    #[test]
    fn retryable_refusal_of_a_second_attempt_leaves_the_outcome_unknown() {
        let refused = [429, 500, 503].map(reply_with);
        let codes = [ErrorCode::NotStored, ErrorCode::Unavailable, ErrorCode::RateLimited];
        let failed = codes.map(|code| Err(Error::new(code, "")));
        for reply in refused.into_iter().chain(failed) {
            let reply = after_unanswered_attempt(reply);
            assert!(matches!(reply, Err(Error { code: ErrorCode::OutcomeUnknown, .. })), "{reply:?}");
        }
    }

    #[test]
    fn decided_answer_of_a_second_attempt_stands() {
        for status in [200, 201, 400, 404, 409, 422] {
            assert_eq!(after_unanswered_attempt(reply_with(status)).expect("a reply").status, status);
        }
    }
}
