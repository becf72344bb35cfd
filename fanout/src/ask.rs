//! Asking api: one question, at most two tries, one deadline.
//!
//! What must hold: the second try carries the same key, so that an action is done once however
//! often it is asked for; and after the deadline api does nothing any more.

use std::time::Duration;

use async_nats::{Client, RequestErrorKind};
use metrics::Histogram;
use serde::{Serialize, de::DeserializeOwned};
use shared::{
    error::{Error, ErrorCode},
    metric_names as names,
    rpc::{
        ActionReply, ActionRequest, ConfirmRequest, Confirmed, HelloRequest, Participants,
        ParticipantsRequest, PresenceRequest, Reply, SignalRequest, time_left,
    },
    subject::rpc,
};

/// How long the first try may take.
const FIRST: Duration = Duration::from_millis(2_500);
/// Before asking again where no api node listened.
const NOBODY: Duration = Duration::from_millis(100);

/// Asks api over the broker.
#[derive(Clone)]
pub(crate) struct Ask {
    client: Client,
    seconds: Histogram,
}

impl Ask {
    /// Asks over that connection.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, seconds: metrics::histogram!(names::RPC_SECONDS) }
    }

    /// One action of a socket.
    pub(crate) async fn action(&self, request: &ActionRequest) -> Reply<ActionReply> {
        self.ask(rpc::ACTION, request, request.expires_at).await
    }

    /// A person connects.
    pub(crate) async fn hello(&self, request: &HelloRequest) -> Reply<()> {
        self.ask(rpc::HELLO, request, request.expires_at).await
    }

    /// People are here, or gone.
    pub(crate) async fn presence(&self, request: &PresenceRequest) -> Reply<Vec<Reply<()>>> {
        self.ask(rpc::PRESENCE, request, request.expires_at).await
    }

    /// Who is in a room.
    pub(crate) async fn participants(&self, request: &ParticipantsRequest) -> Reply<Participants> {
        self.ask(rpc::PARTICIPANTS, request, request.expires_at).await
    }

    /// Whether people may still be in a room.
    pub(crate) async fn confirm(&self, request: &ConfirmRequest) -> Reply<Confirmed> {
        self.ask(rpc::CONFIRM, request, request.expires_at).await
    }

    /// Whether a person may send signals to another.
    pub(crate) async fn signal(&self, request: &SignalRequest) -> Reply<()> {
        self.ask(rpc::SIGNAL, request, request.expires_at).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        subject: &'static str,
        request: &impl Serialize,
        expires_at: i64,
    ) -> Reply<T> {
        let started = tokio::time::Instant::now();
        let result = self.tries(subject, request, expires_at).await;
        self.seconds.record(started.elapsed().as_secs_f64());
        if let Err(error) = &result {
            metrics::counter!(names::RPC_ERRORS_TOTAL, "code" => error.code.as_str()).increment(1);
        }
        result
    }

    async fn tries<T: DeserializeOwned>(
        &self,
        subject: &'static str,
        request: &impl Serialize,
        expires_at: i64,
    ) -> Reply<T> {
        let payload: bytes::Bytes = serde_json::to_vec(request).map_err(|e| Error::internal(&e))?.into();
        let mut silent = 0;
        while let Some(left) = time_left(expires_at) {
            let at_most = if silent == 0 { left.min(FIRST) } else { left };
            let asked = async_nats::Request::new().payload(payload.clone()).timeout(Some(at_most));
            match self.client.send_request(subject, asked).await {
                Ok(answer) => {
                    return serde_json::from_slice(&answer.payload).map_err(|e| Error::internal(&e))?;
                }
                Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                    tokio::time::sleep(NOBODY).await;
                }
                Err(_) if silent == 1 => break,
                Err(_) => {
                    silent += 1;
                    metrics::counter!(names::RPC_RETRIES_TOTAL).increment(1);
                }
            }
        }
        Err(match silent {
            0 => Error::new(ErrorCode::Unavailable, "No api node is reachable now. Try again."),
            _ => Error::new(
                ErrorCode::OutcomeUnknown,
                "No answer in time. Try again under the same client_id.",
            ),
        })
    }
}
