//! Reads the persister's configuration.

use std::{fmt, time::Duration};

use clap::Args;
use protocol::id::ShardCount;
use service::nats::NatsArgs;

/// Configuration of `roomcast-persister`.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Connection to the broker.
    #[command(flatten)]
    pub nats: NatsArgs,
    /// Connection to the database.
    #[command(flatten)]
    pub database: WriteDatabaseArgs,
    /// Shape of the log's streams.
    #[command(flatten)]
    pub log: StreamArgs,
    /// Port for health and metrics.
    #[command(flatten)]
    pub admin: service::config::AdminArgs,
}

impl Config {
    /// The boot id of the broker's host. `None` for a cluster, and for a broker on another host whose boot id is not
    /// configured.
    pub(crate) fn broker_boot_id(&self) -> Option<String> {
        if self.log.replicas > 1 {
            return None;
        }
        if let Some(boot_id) = &self.log.log_boot_id {
            return Some(boot_id.clone());
        }
        // A broker on this host shares its boot id.
        let is_local = self.nats.is_on_this_machine();
        let boot_id = is_local.then(|| std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok())??;
        Some(boot_id.trim_end().to_owned())
    }
}

/// Connection to the database that the persister writes to.
#[derive(Clone, Args)]
pub struct WriteDatabaseArgs {
    /// The database, as postgres://user:password@host:port/name.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// Maximum database sessions that write batches.
    #[arg(long, env = "ROOMCAST_PERSISTER_SESSIONS", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub persister_sessions: u16,
    /// Write batches of several shards in one transaction, which costs the database less. `false` for a database that is
    /// spread over several servers by shard.
    #[arg(long, env = "ROOMCAST_PERSISTER_GROUP_COMMIT", default_value_t = true, action = clap::ArgAction::Set)]
    pub persister_group_commit: bool,
}

impl fmt::Debug for WriteDatabaseArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "WriteDatabaseArgs {{ database_url: <secret>, persister_sessions: {}, persister_group_commit: {} }}",
            self.persister_sessions, self.persister_group_commit
        )
    }
}

/// Shape of the log's streams, which only the persister creates.
#[derive(Clone, Debug, Args)]
pub struct StreamArgs {
    /// Number of shards of the deployment. It can never change.
    #[arg(long, env = "ROOMCAST_SHARDS", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(ShardCount::MAX)))]
    pub shards: u16,
    /// Number of broker servers that hold a copy of each stream.
    #[arg(long, env = "ROOMCAST_REPLICAS", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=5))]
    pub replicas: u8,
    /// Maximum bytes of each stream.
    #[arg(long, env = "ROOMCAST_STREAM_BYTES", default_value_t = 64 << 20,
          value_parser = clap::value_parser!(u64).range((1 << 20)..=(1 << 40)))]
    pub stream_bytes: u64,
    /// Age in seconds at which events that Postgres has are removed from the log, at least 90. They are removed earlier
    /// while a stream is more than half full.
    #[arg(long, env = "ROOMCAST_REPLAY", default_value_t = 600)]
    pub replay_seconds: u64,
    /// Boot id of the broker's host, for a broker that is a single server: a power cut may have removed the end of the
    /// log, so each boot begins a new epoch. Read from the system if the broker is on this host.
    #[arg(long, env = "ROOMCAST_LOG_BOOT_ID")]
    pub log_boot_id: Option<String>,
}

impl StreamArgs {
    pub(crate) fn shard_count(&self) -> anyhow::Result<ShardCount> {
        ShardCount::new(self.shards)
            .ok_or_else(|| anyhow::anyhow!("ROOMCAST_SHARDS is not 1 to {}", ShardCount::MAX))
    }

    pub(crate) const fn replay_window(&self) -> Duration {
        Duration::from_secs(self.replay_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        config: Config,
    }

    fn broker_boot_id(nats_url: &str, more_flags: &[&str]) -> Option<String> {
        let flags = ["persister", "--database-url=postgres://x", "--nats-url", nats_url];
        let program: Program = clap::Parser::try_parse_from(flags.iter().chain(more_flags)).expect("flags");
        program.config.broker_boot_id()
    }

    #[test]
    fn boot_id_is_known_for_a_single_broker_on_this_host() {
        let this_host = broker_boot_id("nats://127.0.0.1:4222", &[]);
        assert!(this_host.is_some());
        for local in ["nats://persister:secret@127.0.0.1:4222", "localhost", "nats://[::1]:4222"] {
            assert_eq!(broker_boot_id(local, &[]), this_host, "{local}");
        }
        for other in ["nats://a:b@broker:4222", "nats://127.0.0.1.example:4222", "nats://127.example"] {
            assert_eq!(broker_boot_id(other, &[]), None, "{other}");
        }
        assert_eq!(broker_boot_id("nats://127.0.0.1:4222,nats://broker:4222", &[]), None);
        assert_eq!(broker_boot_id("nats://broker:4222", &["--log-boot-id=x"]).as_deref(), Some("x"));
        assert_eq!(broker_boot_id("nats://127.0.0.1:4222", &["--replicas=3", "--log-boot-id=x"]), None);
    }
}
