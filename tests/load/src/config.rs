//! Reads the arguments of `roomcast-load`.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, ValueEnum};

use crate::server::{PublishMethod, ServerKind};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One room that many sockets hear.
    BigRoom,
    /// Many rooms with a few sockets each.
    ManyRooms,
    /// Sockets that hear nothing: what each costs in memory.
    Idle,
    /// All sockets drop at once, come back, and are told what they missed.
    Storm,
    /// Many rooms, whose sockets come and go.
    Mixed,
    /// Sockets come and go, and nobody writes: who is there.
    Joins,
    /// Each writer's next message follows the answer to its last: what writing costs.
    Append,
}

impl Scenario {
    /// Its name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::BigRoom => "big-room",
            Self::ManyRooms => "many-rooms",
            Self::Idle => "idle",
            Self::Storm => "storm",
            Self::Mixed => "mixed",
            Self::Joins => "joins",
            Self::Append => "append",
        }
    }

    /// Rooms, sockets of each, and messages a second, where no flag says otherwise.
    const fn defaults(self) -> (usize, usize, f64) {
        match self {
            Self::BigRoom => (1, 1_000, 20.0),
            Self::ManyRooms => (500, 10, 1_000.0),
            Self::Idle => (1, 10_000, 0.0),
            Self::Storm => (100, 100, 1_000.0),
            Self::Mixed => (500, 10, 500.0),
            Self::Joins => (500, 10, 0.0),
            Self::Append => (64, 1, 0.0),
        }
    }

    /// Whether its sockets come and go.
    pub(crate) const fn has_churn(self) -> bool {
        matches!(self, Self::Mixed | Self::Joins)
    }
}

/// A process whose CPU and memory are counted.
#[derive(Clone, Debug)]
pub(crate) struct NamedProcess {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

impl FromStr for NamedProcess {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, pid) = text.split_once('=').ok_or("not of the form name=pid")?;
        let pid = pid.parse().map_err(|_| "not a number after the =")?;
        Ok(Self { name: name.to_owned(), pid })
    }
}

/// Sockets and messages for a running server, and what they cost it.
#[derive(Clone, Args)]
pub(crate) struct LoadArgs {
    /// What is done.
    #[arg(value_enum)]
    pub(crate) scenario: Scenario,
    /// Where sockets connect: several, divided by commas, where sockets are to be spread over nodes.
    #[arg(long, env = "ROOMCAST_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8080")]
    pub(crate) address: Vec<SocketAddr>,
    /// Where api listens, if not there.
    #[arg(long, value_delimiter = ',')]
    api: Vec<SocketAddr>,
    /// Which server it is.
    #[arg(long, value_enum, default_value = "roomcast")]
    pub(crate) peer: ServerKind,
    /// How messages come to Roomcast.
    #[arg(long, value_enum, default_value = "http")]
    pub(crate) publish: PublishMethod,
    /// The broker, for --publish live, whose user may publish there.
    #[arg(long, env = "NATS_URL", hide_env_values = true, default_value = "nats://127.0.0.1:4222")]
    pub(crate) nats_url: String,
    /// The log's shards, for --publish live.
    #[arg(long, env = "ROOMCAST_SHARDS", default_value_t = 8)]
    pub(crate) shards: u16,
    /// Signs the sockets' tokens; else the file secrets/jwt of the data folder.
    #[arg(long, env = "ROOMCAST_JWT_SECRET", hide_env_values = true)]
    pub(crate) jwt_secret: Option<String>,
    /// The data folder of deploy/up.
    #[arg(long, env = "ROOMCAST_DATA", default_value = "data")]
    pub(crate) data: PathBuf,
    /// Rooms; what a scenario has where this is not given stands in the documentation.
    #[arg(long)]
    rooms: Option<usize>,
    /// Sockets of each room; in append by HTTP none.
    #[arg(long)]
    sockets: Option<usize>,
    /// Messages a second, in all rooms together.
    #[arg(long)]
    rate: Option<f64>,
    /// How often a second a socket enters its room, and one leaves: in mixed 100, in joins 2,000.
    #[arg(long)]
    churn: Option<f64>,
    /// In storm, how many messages each room has while all are away.
    #[arg(long, default_value_t = 100)]
    pub(crate) missed: u64,
    /// In idle, rooms that each socket follows beside its own, and nobody else does: what a room costs.
    #[arg(long, default_value_t = 0)]
    pub(crate) others: usize,
    /// Writers of each room.
    #[arg(long, default_value_t = 1)]
    pub(crate) writers: usize,
    /// Bytes of a message's text.
    #[arg(long, default_value_t = 128)]
    pub(crate) size: usize,
    /// Connections that post by HTTP.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Seconds before the figures begin.
    #[arg(long, default_value_t = 2)]
    pub(crate) warmup: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Looks for the highest rate that is held.
    #[arg(long)]
    pub(crate) max: bool,
    /// The latency that --max holds, of 99 in 100 deliveries, in milliseconds.
    #[arg(long, default_value_t = 100.0)]
    pub(crate) p99: f64,
    /// A process to count, with its children, as name=pid; may be repeated. Without any: who listens there.
    #[arg(long = "pid", value_name = "NAME=PID")]
    pub(crate) pids: Vec<NamedProcess>,
    /// A folder of files NAME.pid, whose first lines are pids to count as well: deploy/up and deploy/cluster
    /// have one in their data folders, named run.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) pids_in: Option<PathBuf>,
    /// Sockets that are closed come back to where they were, as clients do: for a server whose nodes are
    /// ended meanwhile. What they missed has to come.
    #[arg(long)]
    pub(crate) reconnect: bool,
    /// The core that this program keeps to.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
    /// Writes the result to this file, as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Writes the result to this file, as a page with plots.
    #[arg(long)]
    pub(crate) html: Option<PathBuf>,
}

impl std::fmt::Debug for LoadArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("scenario", &self.scenario).finish_non_exhaustive()
    }
}

impl LoadArgs {
    /// How many rooms there are.
    pub(crate) fn rooms(&self) -> usize {
        self.rooms.unwrap_or(self.scenario.defaults().0).max(1)
    }

    /// How many sockets each has.
    pub(crate) fn sockets_per_room(&self) -> usize {
        let needs_no_sockets = self.scenario == Scenario::Append && self.publish != PublishMethod::Socket;
        self.sockets.unwrap_or(if needs_no_sockets { 0 } else { self.scenario.defaults().1 })
    }

    /// Messages a second, of all rooms.
    pub(crate) fn messages_per_second(&self) -> f64 {
        self.rate.unwrap_or(self.scenario.defaults().2)
    }

    /// How often a second a socket enters its room, and one leaves.
    pub(crate) fn churn_per_second(&self) -> f64 {
        self.churn.unwrap_or(if self.scenario == Scenario::Joins { 2_000.0 } else { 100.0 })
    }

    /// Where api listens.
    pub(crate) fn api_addresses(&self) -> Vec<SocketAddr> {
        if self.api.is_empty() { self.address.clone() } else { self.api.clone() }
    }
}
