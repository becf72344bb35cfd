//! Accepts sockets, and checks origin and token before the upgrade.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::any,
};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use protocol::{
    caller::Caller,
    error::{Error, ErrorCode},
    id::RoomId,
    rpc::{ActionRequest, Surface, expiry},
    subject::Channel,
};
use serde_json::{json, value::to_raw_value};
use service::{
    lifecycle::Shutdown,
    metric_names as names,
    serve::{self, BoundedStream},
    token::token_from,
};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    handshake,
    node::Node,
    outbox::RawSocket,
    session::{self, OPENING_TIMEOUT, PendingSession},
};

#[derive(Clone)]
struct AcceptState {
    node: Arc<Node>,
    shutdown: Shutdown,
}

/// The routes on which clients open sockets.
pub(crate) fn router(node: Arc<Node>, shutdown: Shutdown) -> Router {
    let accept = AcceptState { node, shutdown };
    let accept_on = |surface| {
        any(move |State(accept): State<AcceptState>, request: Request| async move {
            handle(&accept, request, surface, None).await
        })
    };
    let mut router = Router::new();
    for (path, surface) in
        [("/ws", Surface::Native), ("/ws/chat", Surface::Match), ("/ws/admin-chat", Surface::MatchAdmin)]
    {
        router = router.route(path, accept_on(surface)).route(&format!("{path}/"), accept_on(surface));
    }
    router
        .route("/chat/{category}/{id}/", any(topic))
        .route("/chat/{category}/{id}", any(topic))
        .with_state(accept)
}

/// Opens a socket at a topic's own address: the socket has joined the topic before the upgrade is answered.
async fn topic(
    State(accept): State<AcceptState>,
    Path((category, id)): Path<(String, String)>,
    request: Request,
) -> Response {
    handle(&accept, request, Surface::Native, Some(TopicAddress { category, id })).await
}

async fn handle(
    accept: &AcceptState,
    request: Request,
    surface: Surface,
    topic: Option<TopicAddress>,
) -> Response {
    match upgrade(accept, request, surface, topic).await {
        Ok(response) => {
            metrics::counter!(names::HANDSHAKES_TOTAL, "outcome" => "accepted").increment(1);
            response
        }
        Err(error) => {
            metrics::counter!(names::HANDSHAKES_TOTAL, "outcome" => error.code.as_str()).increment(1);
            refuse(&error)
        }
    }
}

/// The HTTP answer that refuses a handshake, with problem details in JSON (RFC 9457).
pub(crate) fn refuse(error: &Error) -> Response {
    let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "code": error.code,
        "detail": error.detail,
    });
    let mut response = (status, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    let more: &[(HeaderName, &str)] = match status {
        StatusCode::UNAUTHORIZED => &[(header::WWW_AUTHENTICATE, "Bearer")],
        StatusCode::METHOD_NOT_ALLOWED => &[(header::ALLOW, "GET")],
        // RFC 6455, section 4.4; RFC 9110, section 15.5.22.
        StatusCode::UPGRADE_REQUIRED => &[
            (header::SEC_WEBSOCKET_VERSION, handshake::VERSION),
            (header::CONNECTION, "upgrade"),
            (header::UPGRADE, "websocket"),
        ],
        _ => &[],
    };
    headers.extend(more.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))));
    if let Some(seconds) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

async fn upgrade(
    accept: &AcceptState,
    mut request: Request,
    surface: Surface,
    topic: Option<TopicAddress>,
) -> Result<Response, Error> {
    let node = &accept.node;
    node.limits.upgrades.count_address(node.address.of_request(request.headers(), request.extensions()))?;
    let headers = request.headers();
    let accept_key = handshake::accept_key(&request)?;
    if !node.origins.allows(headers, serve::host(&request)?) {
        return Err(Error::new(ErrorCode::Forbidden, "This origin is not allowed."));
    }
    let token = token_from(headers, request.uri().query())
        .ok_or_else(|| Error::new(ErrorCode::Unauthorized, "A token is needed."))?;
    let identity = node
        .verifier
        .identify(&token)
        .map_err(|error| Error::new(ErrorCode::Unauthorized, error.to_string()))?;
    let identity = Arc::unwrap_or_clone(identity);
    if surface == Surface::MatchAdmin && !identity.caller.is_admin {
        return Err(Error::forbidden());
    }
    let subprotocol = handshake::subprotocol(request.headers());
    let deflates = surface == Surface::Native && handshake::offers_deflate(request.headers());
    let on_upgrade = handshake::take_upgrade(&mut request)?;
    let shard = Channel::User(identity.caller.user.clone()).shard(node.shards);
    // Registered before any request to api, so that a socket above a limit costs nothing.
    let opening = PendingSession::new(node, identity.clone(), surface, deflates)?;
    node.api.store_person(&identity).await?;
    let first = match topic {
        Some(topic) => Some(topic.join_frame(node, &identity.caller).await?),
        None => None,
    };
    // The socket is registered already: a drain that begins after this check closes it.
    if accept.shutdown.soft.is_cancelled() {
        return Err(Error::new(ErrorCode::Unavailable, "This node takes no more sockets."));
    }
    // A node that has just started may not be subscribed yet to what the person's shard sends to people.
    let early = || Error::new(ErrorCode::Unavailable, "This node has just started. Try again.");
    timeout(OPENING_TIMEOUT, node.people_ready.wait_until_ready(shard)).await.map_err(|_| early())?;
    start_session(accept.clone(), on_upgrade, opening, first)
        .await
        .map_err(|error| Error::internal(&error))??;

    let mut response = handshake::switching_protocols(accept_key, deflates);
    response.headers_mut().extend(subprotocol.map(|name| (header::SEC_WEBSOCKET_PROTOCOL, name)));
    Ok(response)
}

/// A topic, as named by the path of its address.
struct TopicAddress {
    category: String,
    id: String,
}

impl TopicAddress {
    /// Asks api whether the topic exists, and returns the frame that joins it.
    async fn join_frame(self, node: &Node, caller: &Caller) -> Result<String, Error> {
        let room: RoomId = self.id.parse().map_err(|_| Error::not_found())?;
        let frame = json!({ "category": self.category, "room_pk": room });
        let request = ActionRequest {
            caller: caller.clone(),
            surface: Surface::Native,
            action: "topic_info".to_owned(),
            frame: to_raw_value(&frame).map_err(|error| Error::internal(&error))?,
            rooms: vec![],
            pairs: vec![],
            key: String::new(),
            request: "handshake".to_owned(),
            expires_at: expiry(),
        };
        match node.api.action(&request).await? {
            reply if reply.status == 200 => {
                Ok(json!({ "action": "join_room", "room_pk": room, "request_id": null }).to_string())
            }
            reply if reply.status == 404 => Err(Error::not_found()),
            _ => Err(Error::new(ErrorCode::Unavailable, "The topic is not available now. Try again.")),
        }
    }
}

/// Runs the socket's first action, if its address has one, and serves the socket once the handshake is answered. The
/// receiver resolves when the handshake may be answered.
///
/// All of it runs in a task of its own: if the client hangs up during the handshake, its subscriptions are still ended.
fn start_session(
    accept: AcceptState,
    on_upgrade: OnUpgrade,
    opening: PendingSession,
    first: Option<String>,
) -> oneshot::Receiver<Result<(), Error>> {
    let (answer, admitted) = oneshot::channel();
    tokio::spawn(async move {
        let mut session = opening.begin(accept.node);
        let first = match first {
            Some(frame) => session.run_first_action(&frame).await,
            None => Ok(()),
        };
        let is_admitted = first.is_ok();
        // The client may have hung up: then the upgrade below fails.
        let _ = answer.send(first);
        let upgraded = if is_admitted { upgraded(on_upgrade).await } else { None };
        match upgraded {
            Some((socket, read)) => {
                session.open(socket, &read);
                // A new task, so that the memory of this one is freed before the socket's long life.
                tokio::spawn(session::run(session));
            }
            None => session.abandon().await,
        }
    });
    admitted
}

/// The raw socket, without the HTTP machinery around it, and the bytes that were read after the handshake. `None` if
/// the upgrade failed.
pub(crate) async fn upgraded(on_upgrade: OnUpgrade) -> Option<(RawSocket, Bytes)> {
    let Ok(parts) = on_upgrade.await.ok()?.downcast::<TokioIo<BoundedStream>>() else {
        tracing::error!("an upgraded connection is of an unexpected type: it is closed");
        return None;
    };
    Some((RawSocket::new(parts.io.into_inner().into_inner()), parts.read_buf))
}
