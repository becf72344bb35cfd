//! Answers the requests of fan-out nodes, as a NATS micro service: `nats service ls` lists the api nodes. The fan-out
//! node of the same process asks without the broker.
//!
//! What must hold: an expired request does nothing, since the fan-out node has given up and told its client so. A
//! stopping node answers every request that the broker routed to it.

mod local;
mod queue;
mod rpc_requests;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use async_nats::{Client, service::ServiceExt as _};
use futures_util::{
    StreamExt as _,
    future::{join_all, try_join_all},
    stream,
};
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
use tokio::time::{Instant, timeout};

pub(crate) use local::LocalRequests;
use queue::{RequestSender, RpcQueue, RpcRequest};
use rpc_requests::RpcRequests;

use crate::{
    commands::state::CommandState,
    commands::{people, presence, read_marks::ReadMarkThrottle, request_context as write, rpc_handlers},
    dialects::{match_rooms, native},
};

/// Channels of one request whose rights are read from Postgres at a time.
const CONCURRENT_CONFIRMATIONS_MAX: usize = 16;
/// How long a stopping node waits for the broker to take its last replies.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The actions that write, in every dialect.
const WRITE_ACTIONS: [&str; 5] = ["create_message", "edit_message", "delete_messages", "mark_read", "invite"];

/// The subjects of the requests.
const SUBJECTS: [&str; 7] = [
    rpc::ACTION,
    rpc::HELLO,
    rpc::PRESENCE,
    rpc::PARTICIPANTS,
    rpc::CONFIRM,
    rpc::CONFIRM_CHANNELS,
    rpc::SIGNAL,
];

/// Answers requests until the soft stop, then finishes those that are being handled.
pub(crate) async fn serve(
    api: Arc<CommandState>,
    client: Client,
    local: LocalRequests,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let service = client
        .service_builder()
        .description("decides what sockets ask")
        .start("roomcast-api", env!("CARGO_PKG_VERSION"))
        .await
        .map_err(|error| anyhow::anyhow!("the rpc service can't start: {error}"))?;
    let queues = SUBJECTS.map(|subject| RpcQueue::new(api.clone(), subject));
    local.open(queues.to_vec());
    let stop_local = async {
        shutdown.soft.cancelled().await;
        local.close();
        anyhow::Ok(())
    };
    // A loop for each subject: if one has too many requests, the others are not affected.
    let listen = try_join_all(queues.iter().map(|queue| serve_subject(queue, &client, &shutdown)));
    tokio::try_join!(stop_local, listen)?;
    service.stop().await.map_err(|error| anyhow::anyhow!("the rpc service can't stop: {error}"))?;
    ReadMarkThrottle::flush(&api).await;
    // The last replies may still be in the client's buffer.
    timeout(FLUSH_TIMEOUT, client.flush()).await.unwrap_or(Ok(())).context("could not flush the last replies")
}

/// Answers the requests of one subject until the soft stop, then those that the broker has routed here before it ends
/// the subscription.
async fn serve_subject(queue: &RpcQueue, client: &Client, shutdown: &Shutdown) -> anyhow::Result<()> {
    let requests = RpcRequests::subscribe(client, queue.subject).await;
    let mut requests = requests.context("the rpc service can't listen")?;
    while let Some(message) = requests.next(&shutdown.soft).await? {
        let request = RpcRequest { payload: message.payload, sender: RequestSender::Remote(message.reply) };
        if let Err(request) = queue.accept(request) {
            queue.refuse(request).await;
        }
    }
    queue.drain().await;
    Ok(())
}

/// Answers a request of one of [`SUBJECTS`].
async fn answer_request(api: &Arc<CommandState>, subject: &str, payload: &[u8]) -> Vec<u8> {
    match subject {
        rpc::ACTION => encode_reply(&handle_action(api, payload).await),
        rpc::HELLO => encode_reply(&handle_hello(api, payload).await),
        rpc::PARTICIPANTS => encode_reply(&handle_participants(api, payload).await),
        rpc::CONFIRM => encode_reply(&handle_confirm(api, payload).await),
        rpc::CONFIRM_CHANNELS => encode_reply(&handle_confirm_channels(api, payload).await),
        rpc::SIGNAL => encode_reply(&handle_signal(api, payload).await),
        _ => encode_reply(&handle_presence(api, payload).await),
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
