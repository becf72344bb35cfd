//! What the persister is told: by flags and the environment.

use std::{fmt, time::Duration};

use clap::Args;
use shared::{id::ShardCount, nats::NatsArgs};

/// Everything `roomcast-persister` needs.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// The broker.
    #[command(flatten)]
    pub nats: NatsArgs,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// The streams.
    #[command(flatten)]
    pub log: LogArgs,
    /// Health and metrics.
    #[command(flatten)]
    pub admin: shared::config::AdminArgs,
}

/// Where the persister writes.
#[derive(Clone, Args)]
pub struct DatabaseArgs {
    /// The database, as postgres://user:password@host:port/name.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// Database sessions that write.
    #[arg(long, env = "ROOMCAST_PERSISTER_SESSIONS", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub persister_sessions: u16,
}

impl fmt::Debug for DatabaseArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DatabaseArgs {{ database_url: <secret>, persister_sessions: {} }}",
            self.persister_sessions
        )
    }
}

/// What the log is to be. The persister alone makes its streams.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// How many shards the deployment has. It can never change.
    #[arg(long, env = "ROOMCAST_SHARDS", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(ShardCount::MAX)))]
    pub shards: u16,
    /// How many servers hold each stream.
    #[arg(long, env = "ROOMCAST_REPLICAS", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=5))]
    pub replicas: u8,
    /// Bytes each stream may hold.
    #[arg(long, env = "ROOMCAST_STREAM_BYTES", default_value_t = 64 << 20,
          value_parser = clap::value_parser!(u64).range((1 << 20)..=(1 << 40)))]
    pub stream_bytes: u64,
    /// Seconds for which events stay in the log after Postgres has them, while there is room.
    #[arg(long, env = "ROOMCAST_REPLAY", default_value_t = 600)]
    pub replay_seconds: u64,
}

impl LogArgs {
    pub(crate) fn shard_count(&self) -> anyhow::Result<ShardCount> {
        ShardCount::new(self.shards)
            .ok_or_else(|| anyhow::anyhow!("ROOMCAST_SHARDS is not 1 to {}", ShardCount::MAX))
    }

    pub(crate) const fn replay(&self) -> Duration {
        Duration::from_secs(self.replay_seconds)
    }
}
