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

/// What a fan-out node needs besides its addresses.
#[derive(Clone, Debug, clap::Args)]
pub struct FanoutArgs {
    /// Sockets the node holds at most; more are answered 503.
    #[arg(long, env = "ROOMCAST_SOCKETS_MAX", default_value_t = 1_000_000)]
    pub sockets_max: usize,
    /// Bytes that may wait for one socket; above it is closed as a slow consumer, and resumes.
    #[arg(long, env = "ROOMCAST_OUTBOX_BYTES", default_value_t = 1 << 20)]
    pub outbox_bytes: usize,
    /// Bytes of recent events that the node holds for those who come back, of all rooms together. Where there are more
    /// it keeps them for a shorter time, and serves the others from the log.
    #[arg(long, env = "ROOMCAST_RINGS_BYTES", default_value_t = 256 << 20)]
    pub rings_bytes: usize,
    /// Seconds for which it holds them at most: as long as the log has them.
    #[arg(long, env = "ROOMCAST_REPLAY", default_value_t = 600)]
    pub replay_seconds: u64,
    /// Seconds that a match socket stays open: its token counts when it connects, and then no more.
    #[arg(long, env = "ROOMCAST_SOCKET_MAX_AGE", default_value_t = 86_400)]
    pub socket_max_age: u64,
    /// How often somebody may ask, and how much they may have.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Where clients are.
    #[command(flatten)]
    pub address: AddressArgs,
    /// How many connections they have.
    #[command(flatten)]
    pub connections: ConnectionArgs,
}

/// How often somebody may ask, and how much they may have, on each node; `off` turns a limit off.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct LimitArgs {
    /// Sockets that may be opened from one address, as in 5:100: 5 a second on average, 100 at once. Those of this
    /// machine are not counted, unless ROOMCAST_ADDRESS_HEADER is set.
    #[arg(long, env = "ROOMCAST_RATE_UPGRADES", default_value = "50:1000")]
    pub rate_upgrades: Rate,
    /// Frames that a socket may send, in the same form. Tokens with `is_admin` are not counted.
    #[arg(long, env = "ROOMCAST_RATE_FRAMES", default_value = "50:2000")]
    pub rate_frames: Rate,
    /// Signals that a person may send to another, in the same form. Tokens with `is_admin` are not counted.
    #[arg(long, env = "ROOMCAST_RATE_SIGNALS", default_value = "10:200")]
    pub rate_signals: Rate,
    /// Sockets that a person may have open.
    #[arg(long, env = "ROOMCAST_SOCKETS_PERSON", default_value = "50")]
    pub sockets_person: ConcurrencyLimit,
    /// Channels that a socket may follow.
    #[arg(long, env = "ROOMCAST_CHANNELS_SOCKET", default_value = "1000")]
    pub channels_socket: ConcurrencyLimit,
}

impl LimitArgs {
    /// No limit at all.
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
    /// Where sockets connect.
    #[arg(long, env = "ROOMCAST_LISTEN", default_value = "127.0.0.1:8081")]
    pub listen: SocketAddr,
    /// The node itself.
    #[command(flatten)]
    pub fanout: FanoutArgs,
    /// The broker.
    #[command(flatten)]
    pub nats: NatsArgs,
    /// Tokens.
    #[command(flatten)]
    pub token: TokenArgs,
    /// Web pages that may connect.
    #[command(flatten)]
    pub origins: OriginArgs,
    /// Metrics and health.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Logs.
    #[command(flatten)]
    pub log: LogFormatArgs,
    /// Stopping.
    #[command(flatten)]
    pub drain: DrainArgs,
}
