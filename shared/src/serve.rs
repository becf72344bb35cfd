//! Serving HTTP: an accept loop with the bounds that a public server needs.
//!
//! What must hold: a client that sends its header slowly, or never, is cut off; the number of
//! connections is bounded; after the soft stop no connection is accepted, and those that are open
//! finish what is under way.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tower::ServiceExt as _;
use tracing::Span;

use crate::lifecycle::Shutdown;

/// Names a request in the logs of every service it touches.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The other end of a request's connection: a client, or a proxy in front.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// The bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// HTTP connections at a time; a socket counts only until its upgrade.
    pub max_connections: usize,
    /// How long a client may take to send a request's header.
    pub header_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_connections: 20_000, header_timeout: Duration::from_secs(10) }
    }
}

/// Opens a port; 0 takes any free one.
///
/// # Errors
/// Names the address.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("can't listen on {address}"))
}

/// Serves until the soft stop, then lets open connections finish until the hard one.
///
/// # Errors
/// When the listener is broken.
pub async fn serve(
    name: &'static str,
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(name, addr = %address, "listening");
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.max_connections));
    loop {
        let place = tokio::select! {
            () = shutdown.soft.cancelled() => break,
            place = places.clone().acquire_owned() => place?,
        };
        let accepted = tokio::select! {
            () = shutdown.soft.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or a client that has gone: neither ends the server.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended at once");
            continue;
        }
        let peer = Peer(peer.ip());
        let service = router.clone().map_request(move |mut request: Request<_>| {
            request.extensions_mut().insert(peer);
            request
        });
        let service = TowerToHyperService::new(service);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => Ok(()),
        () = shutdown.hard.cancelled() => Ok(()),
    }
}

/// A request's id: from its header, or a new one, which is put there.
pub fn request_id(request: &mut Request) -> HeaderValue {
    if let Some(id) = request.headers().get(&REQUEST_ID).filter(|id| is_id(id)) {
        return id.clone();
    }
    let id: u128 = rand::random();
    let id = HeaderValue::try_from(format!("{id:032x}")).expect("hexadecimal digits are a header");
    request.headers_mut().insert(REQUEST_ID, id.clone());
    id
}

/// What the log says of all that a request does. The path alone: a query may hold a token.
#[must_use]
pub fn span(request: &Request, id: &HeaderValue) -> Span {
    tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or(""),
        method = %request.method(),
        path = request.uri().path(),
    )
}

fn is_id(id: &HeaderValue) -> bool {
    (1..=128).contains(&id.len())
        && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}
