//! Serves HTTP: an accept loop with the bounds that a public server needs.
//!
//! What must hold: a connection without a whole request is cut off, however little it sends; so is one whose answers
//! are not read. The number of connections is bounded, in total and per address. A client whose body is refused
//! receives the answer. After the soft stop no connection is accepted, and open ones finish what is under way.

mod body;
mod connections;
mod host;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    error::Error as _,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue},
    response::Response,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use tracing::Span;

use crate::{
    lifecycle::Shutdown,
    metric_names as names, random,
    rate::{AddressArgs, ConcurrencyLimit, PeerAddress},
};
use body::UnreadBody;
use connections::{ConnectionCounter, CountedConnection};
pub use host::host;
pub use stream::BoundedStream;

/// Header with the id of a request, which is in the logs of every service that the request reaches.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum bytes of a request's first line and headers together, and maximum number of headers.
const HEADER_MAX_BYTES: usize = 32 << 10;
const HEADERS_MAX: usize = 100;

/// Limit of HTTP connections per address.
#[derive(Clone, Debug, clap::Args)]
pub struct ConnectionArgs {
    /// Maximum HTTP connections of one address on a node; a socket counts until its upgrade. Further ones are answered
    /// 429. Not counted: connections from this machine, and all if ROOMCAST_ADDRESS_HEADER is set, since a proxy's
    /// connections serve many clients.
    #[arg(long, env = "ROOMCAST_CONNECTIONS_PER_ADDRESS", default_value_t = ConcurrencyLimit(1_000))]
    pub connections_per_address: ConcurrencyLimit,
}

/// The limits of a server.
#[derive(Clone, Debug)]
pub struct ServeLimits {
    /// Maximum HTTP connections; a socket counts only until its upgrade.
    pub max_connections: usize,
    /// Maximum HTTP connections per address.
    pub per_address: ConcurrencyLimit,
    /// How the address of a connection is found.
    pub address: AddressArgs,
    /// How long a connection may take to send the whole header of a request.
    pub header_timeout: Duration,
    /// How long an answer may wait for a client that reads nothing of it.
    pub write_timeout: Duration,
}

impl ServeLimits {
    /// The limits of a public server, as configured.
    #[must_use]
    pub fn new(connections: &ConnectionArgs, address: &AddressArgs) -> Self {
        Self {
            per_address: connections.connections_per_address,
            address: address.clone(),
            ..Self::internal()
        }
    }

    /// The limits of a port that only the operator's own programs reach: connections are not limited per address.
    #[must_use]
    pub fn internal() -> Self {
        Self {
            max_connections: 20_000,
            per_address: ConcurrencyLimit::OFF,
            address: AddressArgs::default(),
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
        }
    }
}

/// Opens a port; 0 takes any free one.
///
/// # Errors
/// Names the address.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("can't listen on {address}"))
}

/// Serves until the soft stop, then lets open connections finish until the hard stop.
///
/// # Errors
/// When the listener is broken.
pub async fn serve(
    name: &'static str,
    listener: TcpListener,
    router: Router,
    limits: ServeLimits,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    tracing::info!(name, addr = %listener.local_addr()?, "listening");
    let address = limits.address.clone();
    serve_counted(listener, router, limits, shutdown, move |peer| address.of_connection(peer)).await
}

/// Like [`serve`]. `key` returns the address by which a connection is counted, `None` if it is not counted.
async fn serve_counted(
    listener: TcpListener,
    router: Router,
    limits: ServeLimits,
    shutdown: Shutdown,
    key: impl Fn(IpAddr) -> Option<IpAddr>,
) -> anyhow::Result<()> {
    stream::set_options(&listener)?;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEADER_MAX_BYTES)
        .max_buf_size(HEADER_MAX_BYTES);
    let server = Server { http, router, limits, stop: shutdown.soft.clone(), open: TaskTracker::new() };
    let slots = Arc::new(Semaphore::new(server.limits.max_connections));
    let connections = ConnectionCounter::new(server.limits.per_address);
    loop {
        let slot = tokio::select! {
            () = shutdown.soft.cancelled() => break,
            slot = slots.clone().acquire_owned() => slot?,
        };
        let accepted = tokio::select! {
            () = shutdown.soft.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match connections.try_count(key(peer.ip())) {
                Some(permit) => server.spawn_connection(stream, peer.ip(), (slot, permit)),
                None => connections.refuse(stream),
            },
            Err(error) => {
                // No file descriptor is free, or the client is gone: the server goes on.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    server.open.close();
    tokio::select! {
        () = server.open.wait() => Ok(()),
        () = shutdown.hard.cancelled() => Ok(()),
    }
}

/// What all connections of a port share.
struct Server {
    http: http1::Builder,
    router: Router,
    limits: ServeLimits,
    stop: CancellationToken,
    open: TaskTracker,
}

impl Server {
    /// Serves a connection. `permits` are dropped when the connection ends or becomes a socket.
    fn spawn_connection(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        permits: (OwnedSemaphorePermit, CountedConnection),
    ) {
        let unread = UnreadBody::default();
        let stream = BoundedStream::new(stream, self.limits.write_timeout, unread.clone());
        let router = self.router.clone();
        let service =
            service_fn(move |request| handle(router.clone(), request, PeerAddress(peer), unread.clone()));
        let connection = self.http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let (stop, open) = (self.stop.clone(), OpenConnection::new());
        self.open.spawn(async move {
            let mut connection = pin!(connection);
            let result = tokio::select! {
                result = connection.as_mut() => result,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended");
                if let Some(cause) = end_cause(&error) {
                    metrics::counter!(names::HTTP_CONNECTIONS_ENDED_TOTAL, "cause" => cause).increment(1);
                }
            }
            drop((open, permits));
        });
    }
}

/// Counts a connection in the gauge until it is dropped, also by a panic.
struct OpenConnection(metrics::Gauge);

impl OpenConnection {
    fn new() -> Self {
        let gauge = metrics::gauge!(names::HTTP_CONNECTIONS_OPEN);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The limit by which the server ended a connection, as a label; `None` if it was none.
fn end_cause(error: &hyper::Error) -> Option<&'static str> {
    let is_timed_out = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
    if error.is_timeout() {
        Some("silent")
    } else {
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        source.is_some_and(is_timed_out).then_some("unread")
    }
}

async fn handle(
    router: Router,
    request: hyper::Request<Incoming>,
    peer: PeerAddress,
    unread: UnreadBody,
) -> Result<Response, Infallible> {
    let mut request = request.map(|body| unread.track(body));
    request.extensions_mut().insert(peer);
    let mut response = router.oneshot(request).await?;
    unread.announce_close(&mut response);
    Ok(response)
}

/// A request's id: the one in its header, or a new one, which is written into the header.
pub fn request_id(request: &mut Request) -> HeaderValue {
    if let Some(id) = request.headers().get(&REQUEST_ID).filter(|id| is_request_id(id)) {
        return id.clone();
    }
    let id = HeaderValue::try_from(format!("{:032x}", random::unique_id()))
        .expect("hexadecimal digits are a header");
    request.headers_mut().insert(REQUEST_ID, id.clone());
    id
}

/// The span of a request in the log. It has the path without the query, which may hold a token.
#[must_use]
pub fn span(request: &Request, id: &HeaderValue) -> Span {
    tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or(""),
        method = %request.method(),
        path = request.uri().path(),
    )
}

fn is_request_id(id: &HeaderValue) -> bool {
    (1..=128).contains(&id.len())
        && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}
