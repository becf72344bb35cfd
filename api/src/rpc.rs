//! Answers the requests of fan-out nodes, as a NATS micro service: `nats service ls` lists the api nodes.
//!
//! What must hold: an expired request does nothing, since the fan-out node has given up and told its client so. A
//! stopping node answers every request that the broker routed to it.

mod rpc_requests;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use async_nats::{Client, Message, service::ServiceExt as _};
use futures_util::{StreamExt as _, future::join_all, stream};
use metrics::Histogram;
use protocol::{
    error::{Error, ErrorCode},
    json,
    rpc::{
        ActionRequest, CONFIRM_CALLERS_MAX, CONFIRM_CHANNELS_MAX, ChannelCallers, ConfirmChannelsRequest,
        ConfirmReply, ConfirmRequest, HelloRequest, PRESENCE_CHANGES_MAX, ParticipantsReply,
        ParticipantsRequest, PresenceRequest, RpcResult, SignalRequest, Surface, time_left,
    },
    subject::rpc,
};
use serde::{Serialize, de::DeserializeOwned};
use service::{lifecycle::Shutdown, metric_names as names};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use rpc_requests::RpcRequests;

use crate::{
    commands::state::CommandState,
    commands::{people, presence, read_marks::ReadMarkThrottle, request_context as write, rpc_handlers},
    dialects::{match_rooms, native},
    page,
};

/// Channels of one request whose rights are read from Postgres at a time.
const CONCURRENT_CONFIRMATIONS_MAX: usize = 16;
/// Maximum requests of a subject that are handled at a time.
const CONCURRENT_REQUESTS_MAX: usize = 1_024;
/// How long further requests wait: the fan-out node gives up an attempt not long after that.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum requests of a subject that are handled or wait; more are refused at once.
const QUEUED_REQUESTS_MAX: usize = 16 * 1_024;

/// How long a stopping node waits for the requests it handles: as long as a request is valid.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stopping node waits for the broker to take its last replies.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The actions that write, in every dialect.
const WRITE_ACTIONS: [&str; 5] = ["create_message", "edit_message", "delete_messages", "mark_read", "invite"];

/// Answers requests until the soft stop, then finishes those that are being handled.
pub(crate) async fn serve(api: Arc<CommandState>, client: Client, shutdown: Shutdown) -> anyhow::Result<()> {
    let service = client
        .service_builder()
        .description("decides what sockets ask")
        .start("roomcast-api", env!("CARGO_PKG_VERSION"))
        .await
        .map_err(|error| anyhow::anyhow!("the rpc service can't start: {error}"))?;
    let listen = async |subject| {
        let requests =
            RpcRequests::subscribe(&client, subject).await.context("the rpc service can't listen")?;
        serve_subject(&api, subject, requests, &shutdown).await
    };
    // A loop for each subject: if one has too many requests, the others are not affected.
    tokio::try_join!(
        listen(rpc::ACTION),
        listen(rpc::HELLO),
        listen(rpc::PRESENCE),
        listen(rpc::PARTICIPANTS),
        listen(rpc::CONFIRM),
        listen(rpc::CONFIRM_CHANNELS),
        listen(rpc::SIGNAL),
    )?;
    service.stop().await.map_err(|error| anyhow::anyhow!("the rpc service can't stop: {error}"))?;
    ReadMarkThrottle::flush(&api).await;
    // The last replies may still be in the client's buffer.
    timeout(FLUSH_TIMEOUT, client.flush()).await.unwrap_or(Ok(())).context("could not flush the last replies")
}

/// Answers the requests of one subject until the soft stop, then those that the broker has routed here before it ends
/// the subscription.
async fn serve_subject(
    api: &Arc<CommandState>,
    subject: &'static str,
    mut requests: RpcRequests,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let (worker_permits, queue_permits) =
        (Arc::new(Semaphore::new(CONCURRENT_REQUESTS_MAX)), Arc::new(Semaphore::new(QUEUED_REQUESTS_MAX)));
    let seconds = metrics::histogram!(names::RPC_SERVED_SECONDS);
    while let Some(request) = requests.next(&shutdown.soft).await? {
        let Ok(queue_permit) = queue_permits.clone().try_acquire_owned() else {
            refuse_busy(api, &request).await;
            continue;
        };
        let (api, permits, seconds) = (api.clone(), worker_permits.clone(), seconds.clone());
        tokio::spawn(async move {
            match timeout(QUEUE_TIMEOUT, permits.acquire()).await {
                Ok(_place) => handle_request(&api, subject, &request, &seconds).await,
                Err(_) => refuse_busy(&api, &request).await,
            }
            drop(queue_permit);
        });
    }
    // All permits are free once no request is being handled.
    let _finished =
        timeout(DRAIN_TIMEOUT, queue_permits.acquire_many(u32::try_from(QUEUED_REQUESTS_MAX)?)).await;
    Ok(())
}

/// Refuses a request at once: a late answer would reach nobody, and the fan-out node would send the request again.
async fn refuse_busy(api: &Arc<CommandState>, request: &Message) {
    metrics::counter!(names::RPC_REFUSED_TOTAL).increment(1);
    let busy = Error::new(ErrorCode::Unavailable, "This node is overloaded. Try again.");
    respond(api, request, encode_reply::<()>(&Err(busy))).await;
}

async fn handle_request(
    api: &Arc<CommandState>,
    subject: &'static str,
    request: &Message,
    seconds: &Histogram,
) {
    let started = Instant::now();
    let payload = &request.payload;
    let bytes = match subject {
        rpc::ACTION => encode_reply(&handle_action(api, payload).await),
        rpc::HELLO => encode_reply(&handle_hello(api, payload).await),
        rpc::PARTICIPANTS => encode_reply(&handle_participants(api, payload).await),
        rpc::CONFIRM => encode_reply(&handle_confirm(api, payload).await),
        rpc::CONFIRM_CHANNELS => encode_reply(&handle_confirm_channels(api, payload).await),
        rpc::SIGNAL => encode_reply(&handle_signal(api, payload).await),
        _ => encode_reply(&handle_presence(api, payload).await),
    };
    seconds.record(started.elapsed().as_secs_f64());
    respond(api, request, bytes).await;
}

/// Sends a reply; sends an error instead of a reply that is larger than the broker accepts. The client library would
/// refuse that reply, and the fan-out node would wait in vain and ask again.
async fn respond(api: &Arc<CommandState>, request: &Message, mut bytes: Vec<u8>) {
    let Some(reply) = request.reply.clone() else { return };
    if bytes.len() > page::reply_max_bytes(api.log.nats_client.max_payload()) {
        metrics::counter!(names::ANSWERS_TOO_LARGE_TOTAL, "way" => "rpc").increment(1);
        tracing::warn!(subject = %request.subject, bytes = bytes.len(), "a reply is too large; sending an error");
        bytes = encode_reply::<()>(&Err(page::too_large_error()));
    }
    if let Err(error) = api.log.nats_client.publish(reply, bytes.into()).await {
        tracing::warn!(%error, "could not answer a request of a fan-out node; the node asks again");
    }
}

fn encode_reply<T: Serialize>(reply: &RpcResult<T>) -> Vec<u8> {
    serde_json::to_vec(reply).unwrap_or_default()
}

/// Decodes a request. One that can't be decoded was sent by a later version: another api node may understand it.
fn decode_request<T: DeserializeOwned>(payload: &[u8]) -> RpcResult<T> {
    json::object(payload).map_err(|error| {
        tracing::error!(%error, "could not decode a request of a fan-out node, perhaps of a later version");
        Error::new(ErrorCode::Unavailable, "This node does not understand the request yet. Try again.")
    })
}

/// Returns until when a request may append; refuses an expired one.
fn require_not_expired(expires_at: i64) -> RpcResult<Instant> {
    match time_left(expires_at) {
        Some(remaining) => Ok(Instant::now() + remaining),
        None => {
            metrics::counter!(names::RPC_EXPIRED_TOTAL).increment(1);
            Err(Error::new(ErrorCode::NotStored, "The request arrived too late."))
        }
    }
}

async fn handle_action(api: &Arc<CommandState>, payload: &[u8]) -> RpcResult<protocol::rpc::ActionReply> {
    let request: ActionRequest = decode_request(payload)?;
    let deadline = require_not_expired(request.expires_at)?;
    tracing::debug!(request = request.request, action = request.action, "action");
    if WRITE_ACTIONS.contains(&request.action.as_str()) {
        api.limits.count_write(&request.caller)?;
    }
    Ok(match request.surface {
        Surface::Native => native::socket::handle(api, &request, deadline).await,
        Surface::Match | Surface::MatchAdmin => match_rooms::socket::handle(api, &request, deadline).await,
    })
}

async fn handle_hello(api: &Arc<CommandState>, payload: &[u8]) -> RpcResult<()> {
    let request: HelloRequest = decode_request(payload)?;
    let deadline = require_not_expired(request.expires_at)?;
    people::store_token_profile(api, &request.user, request.issued_at, &request.person, deadline).await
}

async fn handle_presence(api: &Arc<CommandState>, payload: &[u8]) -> RpcResult<Vec<RpcResult<()>>> {
    let PresenceRequest { incarnation, changes, expires_at } = decode_request(payload)?;
    let deadline = require_not_expired(expires_at)?;
    if changes.len() > PRESENCE_CHANGES_MAX {
        return Err(Error::bad_request(format!("changes: at most {PRESENCE_CHANGES_MAX}.")));
    }
    let results = changes.into_iter().map(async |change| {
        presence::append_presence_change(
            api,
            incarnation,
            change,
            &write::RequestContext::new(None, deadline),
        )
        .await
    });
    Ok(join_all(results).await)
}

async fn handle_participants(api: &Arc<CommandState>, payload: &[u8]) -> RpcResult<ParticipantsReply> {
    let request: ParticipantsRequest = decode_request(payload)?;
    require_not_expired(request.expires_at)?;
    rpc_handlers::list_participants(api, request).await
}

async fn handle_confirm(api: &Arc<CommandState>, payload: &[u8]) -> RpcResult<ConfirmReply> {
    let ConfirmRequest { room, team, callers, expires_at } = decode_request(payload)?;
    require_not_expired(expires_at)?;
    rpc_handlers::confirm_access(api, ChannelCallers { room, team, callers }).await
}

async fn handle_confirm_channels(
    api: &Arc<CommandState>,
    payload: &[u8],
) -> RpcResult<Vec<RpcResult<ConfirmReply>>> {
    let ConfirmChannelsRequest { channels, expires_at } = decode_request(payload)?;
    require_not_expired(expires_at)?;
    let callers: usize = channels.iter().map(|channel| channel.callers.len()).sum();
    if channels.len() > CONFIRM_CHANNELS_MAX || callers > CONFIRM_CALLERS_MAX {
        let limits = format!("At most {CONFIRM_CHANNELS_MAX} channels with {CONFIRM_CALLERS_MAX} callers.");
        return Err(Error::bad_request(limits));
    }
    let answers = stream::iter(channels).map(|channel| rpc_handlers::confirm_access(api, channel));
    Ok(answers.buffered(CONCURRENT_CONFIRMATIONS_MAX).collect().await)
}

async fn handle_signal(api: &Arc<CommandState>, payload: &[u8]) -> RpcResult<()> {
    let request: SignalRequest = decode_request(payload)?;
    require_not_expired(request.expires_at)?;
    rpc_handlers::allow_signal(api, &request.caller, &request.user).await
}
