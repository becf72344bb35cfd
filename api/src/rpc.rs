//! What fanout asks, answered: a NATS micro service, so that `nats service ls` shows the nodes.
//!
//! What must hold: a request past its expiry does nothing, since its asker has given up and told
//! the client so. A node that stops answers every request that the broker routed to it.

mod requests;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use async_nats::{Client, Message, service::ServiceExt as _};
use futures_util::future::join_all;
use metrics::Histogram;
use protocol::{
    error::{Error, ErrorCode},
    json,
    rpc::{
        ActionRequest, ConfirmReply, ConfirmRequest, HelloRequest, PRESENCE_CHANGES_MAX, ParticipantsReply,
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

use requests::RpcRequests;

use crate::{
    commands::state::Api,
    commands::{marks::ReadMarkThrottle, people, presence, request as write, rpc_handlers},
    dialects::{match_rooms, native},
    page,
};

/// Requests of a subject that are worked on at a time.
const AT_ONCE: usize = 1_024;
/// How long others wait for a place: who asks gives a try up not long after that.
const QUEUE: Duration = Duration::from_secs(1);
/// How many of both there may be; more are refused at once.
const HELD: usize = 16 * 1_024;

/// How long a node that stops waits for what is under way: as long as a request lives.
const FINISH: Duration = Duration::from_secs(5);
/// How long a node that stops waits for the broker to take its last answers.
const FLUSH: Duration = Duration::from_secs(1);

/// Actions that write, in every dialect.
const WRITES: [&str; 5] = ["create_message", "edit_message", "delete_messages", "mark_read", "invite"];

/// Answers until the soft stop, then finishes what is under way.
pub(crate) async fn serve(api: Api, client: Client, shutdown: Shutdown) -> anyhow::Result<()> {
    let service = client
        .service_builder()
        .description("decides what sockets ask")
        .start("roomcast-api", env!("CARGO_PKG_VERSION"))
        .await
        .map_err(|error| anyhow::anyhow!("the rpc service can't start: {error}"))?;
    let listen = async |subject| {
        let requests = RpcRequests::of(&client, subject).await.context("the rpc service can't listen")?;
        answer_all(&api, subject, requests, &shutdown).await
    };
    // Each by itself: where one is asked too much, the others are answered as ever.
    tokio::try_join!(
        listen(rpc::ACTION),
        listen(rpc::HELLO),
        listen(rpc::PRESENCE),
        listen(rpc::PARTICIPANTS),
        listen(rpc::CONFIRM),
        listen(rpc::SIGNAL),
    )?;
    service.stop().await.map_err(|error| anyhow::anyhow!("the rpc service can't stop: {error}"))?;
    ReadMarkThrottle::flush(&api).await;
    // The last answers wait in the client's buffer. Without a broker nobody gets them.
    timeout(FLUSH, client.flush()).await.unwrap_or(Ok(())).context("the last answers")
}

/// Answers all of a subject until the soft stop, then what the broker routes here until it knows of that.
async fn answer_all(
    api: &Api,
    subject: &'static str,
    mut requests: RpcRequests,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let (places, held) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Semaphore::new(HELD)));
    let seconds = metrics::histogram!(names::RPC_SERVED_SECONDS);
    while let Some(request) = requests.next(&shutdown.soft).await? {
        let Ok(hold) = held.clone().try_acquire_owned() else {
            refuse(api, &request).await;
            continue;
        };
        let (api, places, seconds) = (api.clone(), places.clone(), seconds.clone());
        tokio::spawn(async move {
            match timeout(QUEUE, places.acquire()).await {
                Ok(_place) => answer(&api, subject, &request, &seconds).await,
                Err(_) => refuse(&api, &request).await,
            }
            drop(hold);
        });
    }
    // None is held any more: nothing is under way.
    let _finished = timeout(FINISH, held.acquire_many(u32::try_from(HELD)?)).await;
    Ok(())
}

/// Too much is asked: an answer that comes too late would be for nobody, and whoever asked would ask again.
async fn refuse(api: &Api, request: &Message) {
    metrics::counter!(names::RPC_REFUSED_TOTAL).increment(1);
    let busy = Error::new(ErrorCode::Unavailable, "There is too much to do now. Try again.");
    respond(api, request, encode::<()>(&Err(busy))).await;
}

async fn answer(api: &Api, subject: &'static str, request: &Message, seconds: &Histogram) {
    let started = Instant::now();
    let payload = &request.payload;
    let bytes = match subject {
        rpc::ACTION => encode(&action(api, payload).await),
        rpc::HELLO => encode(&hello(api, payload).await),
        rpc::PARTICIPANTS => encode(&participants(api, payload).await),
        rpc::CONFIRM => encode(&confirm(api, payload).await),
        rpc::SIGNAL => encode(&signal(api, payload).await),
        _ => encode(&tell(api, payload).await),
    };
    seconds.record(started.elapsed().as_secs_f64());
    respond(api, request, bytes).await;
}

/// Replies; an error where the reply is larger than the broker takes: the client library would refuse it, and the
/// asker would wait for nothing and ask again.
async fn respond(api: &Api, request: &Message, mut bytes: Vec<u8>) {
    let Some(reply) = request.reply.clone() else { return };
    if bytes.len() > page::reply_max_bytes(api.client.max_payload()) {
        metrics::counter!(names::ANSWERS_TOO_LARGE_TOTAL, "way" => "rpc").increment(1);
        tracing::warn!(subject = %request.subject, bytes = bytes.len(), "a reply is too large, refused instead");
        bytes = encode::<()>(&Err(page::too_large_error()));
    }
    if let Err(error) = api.client.publish(reply, bytes.into()).await {
        tracing::warn!(%error, "a request of a fan-out node could not be answered");
    }
}

fn encode<T: Serialize>(reply: &RpcResult<T>) -> Vec<u8> {
    serde_json::to_vec(reply).unwrap_or_default()
}

/// Reads a request. One that can't be read is a later version's: another api node may understand it.
fn decode<T: DeserializeOwned>(payload: &[u8]) -> RpcResult<T> {
    json::object(payload).map_err(|error| {
        tracing::error!(%error, "a request of a fan-out node can't be read: is it of a later version?");
        Error::new(ErrorCode::Unavailable, "This node does not understand the request yet. Try again.")
    })
}

/// Until when a request may append; it is refused where that is over.
fn deadline(expires_at: i64) -> RpcResult<Instant> {
    match time_left(expires_at) {
        Some(left) => Ok(Instant::now() + left),
        None => {
            metrics::counter!(names::RPC_EXPIRED_TOTAL).increment(1);
            Err(Error::new(ErrorCode::NotStored, "The request came too late."))
        }
    }
}

async fn action(api: &Api, payload: &[u8]) -> RpcResult<protocol::rpc::ActionReply> {
    let request: ActionRequest = decode(payload)?;
    let deadline = deadline(request.expires_at)?;
    tracing::debug!(request = request.request, action = request.action, "action");
    if WRITES.contains(&request.action.as_str()) {
        api.limits.write(&request.caller)?;
    }
    Ok(match request.surface {
        Surface::Native => native::socket::act(api, &request, deadline).await,
        Surface::Match | Surface::MatchAdmin => match_rooms::socket::act(api, &request, deadline).await,
    })
}

async fn hello(api: &Api, payload: &[u8]) -> RpcResult<()> {
    let request: HelloRequest = decode(payload)?;
    let deadline = deadline(request.expires_at)?;
    people::learn(api, &request.user, request.issued_at, &request.person, deadline).await
}

async fn tell(api: &Api, payload: &[u8]) -> RpcResult<Vec<RpcResult<()>>> {
    let PresenceRequest { incarnation, changes, expires_at } = decode(payload)?;
    let deadline = deadline(expires_at)?;
    if changes.len() > PRESENCE_CHANGES_MAX {
        return Err(Error::bad_request(format!("changes: at most {PRESENCE_CHANGES_MAX}.")));
    }
    let told = changes.into_iter().map(async |change| {
        presence::tell(api, incarnation, change, &write::RequestContext::new(None, deadline)).await
    });
    Ok(join_all(told).await)
}

async fn participants(api: &Api, payload: &[u8]) -> RpcResult<ParticipantsReply> {
    let request: ParticipantsRequest = decode(payload)?;
    deadline(request.expires_at)?;
    rpc_handlers::list_participants(api, request).await
}

async fn confirm(api: &Api, payload: &[u8]) -> RpcResult<ConfirmReply> {
    let request: ConfirmRequest = decode(payload)?;
    deadline(request.expires_at)?;
    rpc_handlers::confirm_access(api, request.room, request.team, request.callers).await
}

async fn signal(api: &Api, payload: &[u8]) -> RpcResult<()> {
    let request: SignalRequest = decode(payload)?;
    deadline(request.expires_at)?;
    rpc_handlers::allow_signal(api, &request.caller, &request.user).await
}
