//! Connects to the broker: each service as its own user, with its own inbox prefix.

mod losses;

pub use losses::{Losses, OwnedSubscription};

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use async_nats::{Auth, AuthError, Client, ConnectOptions, Event};
use tokio::sync::broadcast;

/// How long a service waits at start for the broker.
const FIRST_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long any request to the broker may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum messages that wait in a subscription.
const SUBSCRIPTION_CAPACITY: usize = 64 * 1_024;
/// Maximum messages that wait in a subscription to events that are never stored.
const UNSTORED_SUBSCRIPTION_CAPACITY: usize = 1_024;

/// Address of the broker.
#[derive(Clone, clap::Args)]
pub struct NatsArgs {
    /// The broker, as nats://user:password@host:port; several servers separated by commas. With TLS: tls://…
    #[arg(long, env = "NATS_URL", hide_env_values = true, default_value = "nats://127.0.0.1:4222")]
    pub nats_url: String,

    /// PEM file with the certificate authority that signed the broker's certificate, if the system does not trust it.
    #[arg(long, env = "NATS_CA")]
    pub nats_ca: Option<PathBuf>,
}

impl NatsArgs {
    /// Whether every server's address is `localhost` or a loopback address.
    #[must_use]
    pub fn is_on_this_machine(&self) -> bool {
        let is_loopback = |host: &str| host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        parse_servers(&self.nats_url).is_ok_and(|servers| {
            servers.iter().all(|server| server.host() == "localhost" || is_loopback(server.host()))
        })
    }
}

impl std::fmt::Debug for NatsArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NatsArgs {{ nats_url: <secret>, nats_ca: {:?} }}", self.nats_ca)
    }
}

/// The service that connects. It determines the inbox prefix, since the broker allows each user only its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerUser {
    /// Appends events and answers requests.
    Api,
    /// Receives events and pushes them to sockets.
    Fanout,
    /// Reads the log and owns its streams.
    Persister,
}

impl BrokerUser {
    /// The user's name in the broker's configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Fanout => "fanout",
            Self::Persister => "persister",
        }
    }
}

/// A change of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatsEvent {
    /// It is up, for the first time or again: messages published meanwhile were not received.
    Connected,
    /// It is down, and the client reconnects.
    Disconnected,
    /// Subscriptions have lost messages, and it is not known of which shard: see [`Losses`].
    SlowConsumer,
    /// It is closed for good.
    Closed,
}

/// A connection to the broker.
#[derive(Clone, Debug)]
pub struct BrokerConnection {
    /// The client, cheap to clone.
    pub client: Client,
    /// Losses of its subscriptions, by shard.
    pub losses: Losses,
    events: broadcast::Sender<NatsEvent>,
}

impl BrokerConnection {
    /// Receives the changes of the connection from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<NatsEvent> {
        self.events.subscribe()
    }

    /// JetStream on this connection.
    #[must_use]
    pub fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::context::ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .build(self.client.clone())
    }
}

/// The id of the broker's process that a client is connected to, if the broker is a single server: a restarted one may
/// have an older log. `None` in a cluster.
#[must_use]
pub fn single_broker(client: &Client) -> Option<String> {
    let broker = client.server_info();
    broker.cluster.is_none().then_some(broker.server_id)
}

fn to_nats_event(event: &Event) -> Option<NatsEvent> {
    match event {
        Event::Connected => Some(NatsEvent::Connected),
        Event::Disconnected => Some(NatsEvent::Disconnected),
        Event::SlowConsumer(_) => Some(NatsEvent::SlowConsumer),
        Event::Closed => Some(NatsEvent::Closed),
        Event::LameDuckMode | Event::Draining | Event::ServerError(_) | Event::ClientError(_) => None,
    }
}

/// What a connection does when it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reconnect {
    /// It reconnects, and tries for ever.
    Always,
    /// It stays closed, and drops what it has queued.
    Never,
}

/// Parses the servers of a `NATS_URL`.
fn parse_servers(url: &str) -> anyhow::Result<Vec<async_nats::ServerAddr>> {
    let servers: Result<_, _> = url.split(',').map(|url| url.trim().parse()).collect();
    servers.context("NATS_URL is not nats://user:password@host:port, or tls://…")
}

/// Connects without waiting for the broker, and never reconnects: for checks.
///
/// # Errors
/// When the broker is not reachable or refuses.
pub async fn connect_once(args: &NatsArgs, role: BrokerUser) -> anyhow::Result<BrokerConnection> {
    open(args, role, Reconnect::Never).await
}

pub(crate) async fn open(
    args: &NatsArgs,
    role: BrokerUser,
    reconnect: Reconnect,
) -> anyhow::Result<BrokerConnection> {
    open_with(args, role, reconnect, SUBSCRIPTION_CAPACITY).await
}

async fn open_with(
    args: &NatsArgs,
    role: BrokerUser,
    reconnect: Reconnect,
    subscription_capacity: usize,
) -> anyhow::Result<BrokerConnection> {
    let (events, _) = broadcast::channel(64);
    let (callback_events, losses) = (events.clone(), Losses::default());
    let callback_losses = losses.clone();
    let servers = parse_servers(&args.nats_url)?;
    // The client takes no credentials from the URL by itself.
    let (user, password) = servers
        .iter()
        .find_map(|server| Some((server.username()?.to_owned(), server.password()?.to_owned())))
        .unzip();
    let is_used = AtomicBool::new(false);
    let mut options = ConnectOptions::with_auth_callback(move |_| {
        // The client has no option to stay closed, and would send what is queued to a broker that is back at once.
        // Without credentials it stays disconnected.
        let is_reconnect = reconnect == Reconnect::Never && is_used.swap(true, Ordering::Relaxed);
        let (username, password) = (user.clone(), password.clone());
        async move {
            if is_reconnect {
                return Err(AuthError::new("a lost connection is replaced by another"));
            }
            let mut auth = Auth::new();
            (auth.username, auth.password) = (username, password);
            Ok(auth)
        }
    });
    options = options
        .name(format!("roomcast-{}", role.as_str()))
        .custom_inbox_prefix(format!("_INBOX_{}", role.as_str()))
        .connection_timeout(Duration::from_secs(3))
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(Duration::from_secs(5))
        .subscription_capacity(subscription_capacity)
        .event_callback(move |event| {
            if let Event::ServerError(_) | Event::ClientError(_) = event {
                tracing::warn!(%event, "the connection to the broker has an error");
            }
            let is_counted = matches!(event, Event::SlowConsumer(number) if callback_losses.count(number));
            if let Some(event) = to_nats_event(&event).filter(|_| !is_counted) {
                // Fails if there is no receiver: some connections have none.
                let _ = callback_events.send(event);
            }
            async {}
        });
    if let Some(file) = &args.nats_ca {
        options = options.add_root_certificates(file.clone());
    }
    if reconnect == Reconnect::Never {
        options = options.max_reconnects(1);
    }
    let client = options.connect(servers).await?;
    Ok(BrokerConnection { client, losses, events })
}

/// Connects, waiting up to 30 s for the broker. The connection reconnects by itself.
///
/// # Errors
/// The error names `NATS_URL`, and has the broker's answer.
pub async fn connect(args: &NatsArgs, role: BrokerUser) -> anyhow::Result<BrokerConnection> {
    connect_with(args, role, SUBSCRIPTION_CAPACITY).await
}

/// Opens a connection for events that are never stored. They may be lost, so far fewer of them may wait in a
/// subscription.
///
/// # Errors
/// The error names `NATS_URL`, and has the broker's answer.
pub async fn connect_for_unstored(args: &NatsArgs, role: BrokerUser) -> anyhow::Result<BrokerConnection> {
    connect_with(args, role, UNSTORED_SUBSCRIPTION_CAPACITY).await
}

async fn connect_with(
    args: &NatsArgs,
    role: BrokerUser,
    subscription_capacity: usize,
) -> anyhow::Result<BrokerConnection> {
    let deadline = tokio::time::Instant::now() + FIRST_CONNECT_TIMEOUT;
    loop {
        match open_with(args, role, Reconnect::Always, subscription_capacity).await {
            Ok(connection) => return Ok(connection),
            Err(error) if tokio::time::Instant::now() >= deadline => {
                return Err(error.context(format!(
                    "NATS_URL: the {} service can't connect to the broker",
                    role.as_str()
                )));
            }
            Err(error) => {
                tracing::info!(%error, "can't connect to the broker, retrying");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}
