//! Gives `tests/bench` access to the hot paths. Each function does what a node's own tasks do, and nothing else.
//!
//! Sockets are real TCP connections. There is no broker: on these paths a node sends nothing to it.

use std::{
    net::TcpStream,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use async_nats::{Client, ConnectOptions};
use protocol::{caller::Caller, id::ShardCount};
use service::{
    lifecycle::Shutdown,
    origin::{OriginArgs, Origins},
    rate::{AddressArgs, ConcurrencyLimit},
    token::{TokenArgs, TokenVerifier},
};
use tokio::net::TcpListener;

use crate::{
    api_client::ApiClient, config::LimitArgs, limits::SocketLimits, node::Node, outbox::RawSocket,
    outbox::registry::SocketRegistry, presence::PresencePublisher, shard::PeopleReady,
};
pub use crate::{session::bench::BenchSession, shard::bench::BenchRoom};

/// Maximum bytes that wait for a socket.
pub(crate) const OUTBOX_BYTES: usize = 1 << 20;
const PROCESS_ID: u64 = 1;

/// A NATS client that is never connected: nothing listens on its port.
pub(crate) async fn client() -> Client {
    let options = ConnectOptions::new().retry_on_initial_connect();
    options.connect("nats://127.0.0.1:1").await.expect("a client that waits")
}

/// A node without sockets and without shard tasks.
pub(crate) async fn node(shards: ShardCount) -> Arc<Node> {
    let client = client().await;
    let api = ApiClient::new(client.clone(), None);
    let token = TokenArgs {
        jwt_secret: Some("s".repeat(32)),
        jwt_jwks: None,
        jwt_audience: vec![],
        jwt_issuer: vec![],
    };
    Arc::new(Node {
        presence: PresencePublisher::new(api.clone(), shards, PROCESS_ID),
        api,
        sockets: SocketRegistry::new(usize::MAX, ConcurrencyLimit::OFF),
        verifier: TokenVerifier::start(&token, &Shutdown::default()).await.expect("a long secret"),
        origins: OriginArgs { allowed_origins: Origins::default() },
        limits: SocketLimits::new(&LimitArgs::off()),
        address: AddressArgs::default(),
        unstored_client: client,
        process_id: PROCESS_ID,
        outbox_bytes: OUTBOX_BYTES,
        match_socket_max_age: Duration::from_secs(86_400),
        shards,
        people_ready: PeopleReady::new(shards),
        shard_tasks: vec![],
        socket_counter: AtomicU64::new(0),
    })
}

/// The caller of the socket with this number: an ordinary person, `user-<number>`.
pub(crate) fn caller(socket_id: u64) -> Caller {
    let user = format!("user-{socket_id}").parse().expect("an id");
    Caller { user, is_admin: false, org_id: None }
}

/// A writable server socket, and the client's end of its connection.
pub(crate) async fn socket_pair() -> (RawSocket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a server");
    client.set_nonblocking(true).expect("a socket");
    let socket = RawSocket::new(listener.accept().await.expect("a client").0);
    socket.ready(false, true).await.expect("room to write");
    (socket, client)
}
