//! Accepting a socket: origin and token are checked before the upgrade.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::any,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade::downcast};
use serde_json::{json, value::to_raw_value};
use sha1::{Digest as _, Sha1};
use shared::{
    error::{Error, ErrorCode},
    id::RoomId,
    lifecycle::Shutdown,
    metric_names as names,
    rpc::{ActionRequest, Surface, expiry},
    rules::Caller,
    subject::Channel,
    token::token_from,
};
use tokio::{net::TcpStream, sync::oneshot, time::timeout};

use crate::{
    node::Node,
    session::{self, ADMITTED, Opening, Socket, deflate},
};

#[derive(Clone)]
struct Accept {
    node: Arc<Node>,
    shutdown: Shutdown,
}

/// The sockets' route.
pub(crate) fn router(node: Arc<Node>, shutdown: Shutdown) -> Router {
    let accept = Accept { node, shutdown };
    let matches = |surface| {
        any(move |State(accept): State<Accept>, request: Request| async move {
            serve(&accept, request, surface, None).await
        })
    };
    let mut router = Router::new();
    for (path, surface) in
        [("/ws", Surface::Native), ("/ws/chat", Surface::Match), ("/ws/admin-chat", Surface::MatchAdmin)]
    {
        router = router.route(path, matches(surface)).route(&format!("{path}/"), matches(surface));
    }
    router
        .route("/chat/{category}/{id}/", any(topic))
        .route("/chat/{category}/{id}", any(topic))
        .with_state(accept)
}

/// A topic's own address: its socket is in the topic from the start.
async fn topic(
    State(accept): State<Accept>,
    Path((category, id)): Path<(String, String)>,
    request: Request,
) -> Response {
    serve(&accept, request, Surface::Native, Some(Topic { category, id })).await
}

async fn serve(accept: &Accept, request: Request, surface: Surface, topic: Option<Topic>) -> Response {
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

fn refuse(error: &Error) -> Response {
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
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The parts of a comma-separated header.
fn parts(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Whether a comma-separated header has that token.
fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    parts(headers, name).any(|part| part.eq_ignore_ascii_case(token))
}

/// The key that the client has to be answered with.
fn accept_key(headers: &HeaderMap) -> Result<String, Error> {
    let is_upgrade = has_token(headers, header::CONNECTION, "upgrade")
        && has_token(headers, header::UPGRADE, "websocket")
        && text(headers, header::SEC_WEBSOCKET_VERSION) == Some("13");
    let key = text(headers, header::SEC_WEBSOCKET_KEY).filter(|_| is_upgrade);
    let Some(key) = key.filter(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)) else {
        return Err(Error::bad_request("This address speaks WebSocket (RFC 6455, version 13)."));
    };
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    Ok(STANDARD.encode(hash.finalize()))
}

async fn upgrade(
    accept: &Accept,
    mut request: Request,
    surface: Surface,
    topic: Option<Topic>,
) -> Result<Response, Error> {
    let node = &accept.node;
    node.upgrades.count(&node.address.of(&request))?;
    let headers = request.headers();
    let accept_key = accept_key(headers)?;
    if !node.origins.allows(text(headers, header::ORIGIN), text(headers, header::HOST)) {
        return Err(Error::new(ErrorCode::Forbidden, "This origin is not allowed."));
    }
    let token = token_from(headers, request.uri().query())
        .ok_or_else(|| Error::new(ErrorCode::Unauthorized, "A token is needed."))?;
    let identity = node
        .verifier
        .verify(&token)
        .map_err(|error| Error::new(ErrorCode::Unauthorized, error.to_string()))?;
    let full = || Error::new(ErrorCode::Unavailable, "This node takes no more sockets.");
    if !node.sessions.has_room() {
        return Err(full());
    }
    if surface == Surface::MatchAdmin && !identity.caller.is_admin {
        return Err(Error::forbidden());
    }
    node.ask.hello(&identity).await?;
    let first = match topic {
        Some(topic) => Some(topic.join(node, &identity.caller).await?),
        None => None,
    };
    let offers_bearer = has_token(request.headers(), header::SEC_WEBSOCKET_PROTOCOL, "bearer");
    let on_upgrade = request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .ok_or_else(|| Error::bad_request("This connection can't be upgraded."))?;
    let offers = parts(request.headers(), header::SEC_WEBSOCKET_EXTENSIONS);
    let deflates = surface == Surface::Native && deflate::is_offered(offers);
    let shard = Channel::User(identity.caller.user.clone()).shard(node.shards);
    let opening = Opening::new(node, identity, surface, deflates);
    // Listed first, then asked: a drain that begins now closes it.
    if accept.shutdown.soft.is_cancelled() {
        return Err(full());
    }
    // A node that has just started may not hear its people yet.
    let early = || Error::new(ErrorCode::Unavailable, "This node has just begun. Try again.");
    timeout(ADMITTED, node.people.wait(shard)).await.map_err(|_| early())?;
    begin(accept.clone(), on_upgrade, opening, first).await.map_err(|error| Error::internal(&error))??;

    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let key = HeaderValue::try_from(accept_key).map_err(|error| Error::internal(&error))?;
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    if offers_bearer {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("bearer"));
    }
    if deflates {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(deflate::AGREED));
    }
    Ok(response)
}

/// A topic, as its address names it.
struct Topic {
    category: String,
    id: String,
}

impl Topic {
    /// The frame that joins it, where it is there.
    async fn join(self, node: &Node, caller: &Caller) -> Result<String, Error> {
        let room: RoomId = self.id.parse().map_err(|_| Error::not_found())?;
        let frame = json!({ "category": self.category, "room_pk": room });
        let ask = ActionRequest {
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
        match node.ask.action(&ask).await? {
            reply if reply.status == 200 => {
                Ok(json!({ "action": "join_room", "room_pk": room, "request_id": null }).to_string())
            }
            reply if reply.status == 404 => Err(Error::not_found()),
            _ => Err(Error::new(ErrorCode::Unavailable, "The topic is not reachable now. Try again.")),
        }
    }
}

/// Does what the socket's address asks for, then serves it once the answer has left. Resolves when that answer
/// may be given.
///
/// It runs beside the handshake: where the client hangs up meanwhile, what was begun for it ends all the same.
fn begin(
    accept: Accept,
    on_upgrade: OnUpgrade,
    opening: Opening,
    first: Option<String>,
) -> oneshot::Receiver<Result<(), Error>> {
    let (answer, admitted) = oneshot::channel();
    tokio::spawn(async move {
        let mut session = opening.begin(accept.node);
        let first = match first {
            Some(frame) => session.act_first(&frame).await,
            None => Ok(()),
        };
        let is_admitted = first.is_ok();
        // The handshake may be over meanwhile: then there is no upgrade either.
        let _ = answer.send(first);
        let upgraded = if is_admitted { upgraded(on_upgrade).await } else { None };
        match upgraded {
            Some((socket, read)) => {
                session.open(socket, &read);
                // A task of its own: of the handshake's nothing is kept for as long as the socket lives.
                tokio::spawn(session::run(session));
            }
            None => session.abandon().await,
        }
    });
    admitted
}

/// The raw socket, without the HTTP machinery around it, and what was read of it; `None` where there is no
/// upgrade.
async fn upgraded(on_upgrade: OnUpgrade) -> Option<(Socket, Bytes)> {
    let Ok(parts) = downcast::<TokioIo<TcpStream>>(on_upgrade.await.ok()?) else {
        tracing::error!("a socket is not what the server accepted");
        return None;
    };
    Some((Socket::new(parts.io.into_inner()), parts.read_buf))
}
