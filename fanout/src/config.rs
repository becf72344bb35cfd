//! Reads the configuration of a fan-out node.

use std::net::SocketAddr;

use service::{
    config::{AdminArgs, DrainArgs, LogFormatArgs},
    nats::NatsArgs,
    origin::OriginArgs,
    rate::{AddressArgs, ConcurrencyLimit, Rate},
    serve::ConnectionArgs,
    token::TokenArgs,
};

/// Settings of a fan-out node, besides its address and those that other services have too.
#[derive(Clone, Debug, clap::Args)]
pub struct FanoutArgs {
    /// Maximum sockets on this node. Further handshakes are answered 503.
    #[arg(long, env = "ROOMCAST_SOCKETS_MAX", default_value_t = 1_000_000)]
    pub sockets_max: usize,
    /// Maximum bytes that wait for one socket. Above that it is closed as a slow consumer, and its client can resume.
    #[arg(long, env = "ROOMCAST_OUTBOX_BYTES", default_value_t = 1 << 20)]
    pub outbox_bytes: usize,
    /// Maximum bytes of recent events, of all rooms together, that the node keeps in memory for clients that resume. If
    /// there are more, it keeps them for a shorter time, and reads older events from the log.
    #[arg(long, env = "ROOMCAST_RINGS_BYTES", default_value_t = 256 << 20)]
    pub rings_bytes: usize,
    /// Maximum seconds for which the node keeps an event in memory. Use the persister's value, for which the log keeps
    /// events.
    #[arg(long, env = "ROOMCAST_REPLAY", default_value_t = 600)]
    pub replay_seconds: u64,
    /// Maximum seconds that a match socket stays open, since its token is checked only when it connects.
    #[arg(long, env = "ROOMCAST_SOCKET_MAX_AGE", default_value_t = 86_400)]
    pub socket_max_age: u64,
    /// Limits per address, person and socket.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// How to find the addresses of clients.
    #[command(flatten)]
    pub address: AddressArgs,
    /// Limits on connections.
    #[command(flatten)]
    pub connections: ConnectionArgs,
}

/// Limits per address, person and socket. Each node counts on its own; `off` turns a limit off.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct LimitArgs {
    /// Rate of handshakes from one address: 5:100 means 5 per second on average and 100 at once. Those from this
    /// machine are not counted, unless ROOMCAST_ADDRESS_HEADER is set.
    #[arg(long, env = "ROOMCAST_RATE_UPGRADES", default_value = "50:1000")]
    pub rate_upgrades: Rate,
    /// Rate of frames from one socket, in the format of ROOMCAST_RATE_UPGRADES. Sockets with an `is_admin` token are
    /// not counted.
    #[arg(long, env = "ROOMCAST_RATE_FRAMES", default_value = "50:2000")]
    pub rate_frames: Rate,
    /// Rate of signals from one person to another, in the format of ROOMCAST_RATE_UPGRADES. Sockets with an `is_admin`
    /// token are not counted.
    #[arg(long, env = "ROOMCAST_RATE_SIGNALS", default_value = "10:200")]
    pub rate_signals: Rate,
    /// Maximum open sockets of one person. Sockets with an `is_admin` token are not counted.
    #[arg(long, env = "ROOMCAST_SOCKETS_PERSON", default_value = "50")]
    pub sockets_person: ConcurrencyLimit,
    /// Maximum channels that one socket follows.
    #[arg(long, env = "ROOMCAST_CHANNELS_SOCKET", default_value = "1000")]
    pub channels_socket: ConcurrencyLimit,
}

impl LimitArgs {
    /// Turns all limits off.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) const fn off() -> Self {
        Self {
            rate_upgrades: Rate::OFF,
            rate_frames: Rate::OFF,
            rate_signals: Rate::OFF,
            sockets_person: ConcurrencyLimit::OFF,
            channels_socket: ConcurrencyLimit::OFF,
        }
    }
}

/// roomcast-fanout: holds the sockets and pushes the log to them.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "roomcast-fanout", version)]
pub struct Config {
    /// Address on which clients connect.
    #[arg(long, env = "ROOMCAST_LISTEN", default_value = "127.0.0.1:8081")]
    pub listen: SocketAddr,
    /// Settings of the node itself.
    #[command(flatten)]
    pub fanout: FanoutArgs,
    /// The broker.
    #[command(flatten)]
    pub nats: NatsArgs,
    /// How tokens are verified.
    #[command(flatten)]
    pub token: TokenArgs,
    /// Origins of web pages that may connect.
    #[command(flatten)]
    pub origins: OriginArgs,
    /// Metrics and health.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How the node logs.
    #[command(flatten)]
    pub log: LogFormatArgs,
    /// How long the node may take to stop.
    #[command(flatten)]
    pub drain: DrainArgs,
}
