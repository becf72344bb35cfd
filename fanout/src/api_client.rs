//! Asks api: one question, at most two attempts, one deadline.
//!
//! What must hold: the second try carries the same key, so that an action is done once however
//! often it is asked for; and after the deadline api does nothing any more. An action whose first try was
//! not answered is never called refused because the second was.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{Client, RequestErrorKind};
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
use service::{metric_names as names, token::Identity};
use tokio::time::Instant;

/// How long the first try may take.
const FIRST_ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Before asking again where no api node listened.
const NO_RESPONDERS_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// How long channels are asked about one by one after no api node answered a question about several.
const BUNDLING_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Asks api over the broker.
#[derive(Clone)]
pub(crate) struct ApiClient {
    client: Client,
    seconds: Histogram,
    /// When no api node listened to questions about several channels.
    unbundled_since: Arc<Mutex<Option<Instant>>>,
}

/// What the attempts of one request meet.
#[derive(Default)]
struct Attempts {
    /// Number of attempts that no node has answered in time.
    unanswered: u32,
    /// Give up at once where no node listens.
    ends_without_responders: bool,
    /// No node listened at the last attempt.
    had_no_responders: bool,
}

impl ApiClient {
    /// Asks over that connection.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, seconds: metrics::histogram!(names::RPC_SECONDS), unbundled_since: Arc::default() }
    }

    /// One action of a socket.
    pub(crate) async fn action(&self, request: &ActionRequest) -> RpcResult<ActionReply> {
        let (reply, attempts) =
            self.request_measured(rpc::ACTION, request, request.expires_at, Attempts::default()).await;
        if attempts.unanswered > 0 { after_unanswered_attempt(reply) } else { reply }
    }

    /// Has what a token says of its person stored, before they are let in or told that it counts.
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

    /// People are here, or gone.
    pub(crate) async fn publish_presence(&self, request: &PresenceRequest) -> RpcResult<Vec<RpcResult<()>>> {
        self.request(rpc::PRESENCE, request, request.expires_at).await
    }

    /// Who is in a room.
    pub(crate) async fn participants(&self, request: &ParticipantsRequest) -> RpcResult<ParticipantsReply> {
        self.request(rpc::PARTICIPANTS, request, request.expires_at).await
    }

    /// Whether people may still be in a room.
    pub(crate) async fn confirm_access(&self, request: &ConfirmRequest) -> RpcResult<ConfirmReply> {
        self.request(rpc::CONFIRM, request, request.expires_at).await
    }

    /// Whether people may still be in several channels; `None` where no api node answers that question: all are of an
    /// older version, or none is reachable.
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

    /// Whether no api node was missing for [`ApiClient::confirm_channels`] lately.
    fn is_bundling_supported(&self) -> bool {
        self.lock_bundling().is_none_or(|since| since.elapsed() >= BUNDLING_RETRY_INTERVAL)
    }

    fn lock_bundling(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unbundled_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a person may send signals to another.
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

    /// The reply, and what the attempts for it met.
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

    async fn request_with_retry<T: DeserializeOwned>(
        &self,
        subject: &'static str,
        request: &impl Serialize,
        expires_at: i64,
        attempts: &mut Attempts,
    ) -> RpcResult<T> {
        let payload: bytes::Bytes = serde_json::to_vec(request).map_err(|e| Error::internal(&e))?.into();
        while let Some(left) = time_left(expires_at) {
            let at_most = if attempts.unanswered == 0 { left.min(FIRST_ATTEMPT_TIMEOUT) } else { left };
            let asked = async_nats::Request::new().payload(payload.clone()).timeout(Some(at_most));
            match self.client.send_request(subject, asked).await {
                Ok(answer) => {
                    attempts.had_no_responders = false;
                    return serde_json::from_slice(&answer.payload).map_err(|e| Error::internal(&e))?;
                }
                Err(error) if error.kind() == RequestErrorKind::NoResponders => {
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
        Err(match attempts.unanswered {
            0 => Error::new(ErrorCode::Unavailable, "No api node is reachable now. Try again."),
            _ => outcome_unknown(),
        })
    }
}

fn outcome_unknown() -> Error {
    Error::new(ErrorCode::OutcomeUnknown, "No answer in time. Try again under the same client_id.")
}

/// The reply to the second try of an action whose first try was not answered. The first node may still do the
/// action until the deadline, so a refusal that calls for another try does not mean that nothing was stored.
fn after_unanswered_attempt(reply: RpcResult<ActionReply>) -> RpcResult<ActionReply> {
    let status = match &reply {
        Ok(reply) => reply.status,
        Err(error) => error.code.status(),
    };
    let may_be_tried_again = status == 429 || status >= 500;
    if may_be_tried_again { Err(outcome_unknown()) } else { reply }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16) -> RpcResult<ActionReply> {
        Ok(ActionReply { status, data: None, errors: vec![], effect: None })
    }

    #[test]
    fn refusal_of_a_second_try_that_calls_for_another_leaves_the_outcome_unknown() {
        let refused = [429, 500, 503].map(answered);
        let codes = [ErrorCode::NotStored, ErrorCode::Unavailable, ErrorCode::RateLimited];
        let failed = codes.map(|code| Err(Error::new(code, "")));
        for reply in refused.into_iter().chain(failed) {
            let reply = after_unanswered_attempt(reply);
            assert!(matches!(reply, Err(Error { code: ErrorCode::OutcomeUnknown, .. })), "{reply:?}");
        }
    }

    #[test]
    fn decided_answer_of_a_second_try_stands() {
        for status in [200, 201, 400, 404, 409, 422] {
            assert_eq!(after_unanswered_attempt(answered(status)).expect("a reply").status, status);
        }
    }
}
