//! Reads the arguments of `roomcast-load`. Doc comments of arguments are their text in `--help`.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, ValueEnum};

use crate::server::{PublishMethod, ServerKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One room with many sockets.
    BigRoom,
    /// Many rooms with a few sockets each.
    ManyRooms,
    /// Sockets without messages: measures the memory of each.
    Idle,
    /// All sockets are closed at once, reconnect, and get what they missed.
    Storm,
    /// Many rooms, whose sockets leave and join all the time.
    Mixed,
    /// Sockets leave and join, without messages: checks and measures the lists of participants.
    Joins,
    /// Each writer sends its next message when the last is answered: measures the cost of writing.
    Append,
}

impl Scenario {
    /// The scenario's name on the command line.
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

    /// Default numbers of rooms, of sockets per room, and of messages per second.
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

    /// Whether sockets leave and join all the time.
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

/// Loads a running server with sockets and messages, and measures what they cost it.
#[derive(Clone, Args)]
pub(crate) struct LoadArgs {
    /// The scenario to run.
    #[arg(value_enum)]
    pub(crate) scenario: Scenario,
    /// The address that sockets connect to. Several addresses, separated by commas, spread the sockets over nodes.
    #[arg(long, env = "ROOMCAST_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8080")]
    pub(crate) address: Vec<SocketAddr>,
    /// The address of api, if it is not --address.
    #[arg(long, value_delimiter = ',')]
    api: Vec<SocketAddr>,
    /// The kind of server.
    #[arg(long, value_enum, default_value = "roomcast")]
    pub(crate) peer: ServerKind,
    /// How messages are sent to Roomcast.
    #[arg(long, value_enum, default_value = "http")]
    pub(crate) publish: PublishMethod,
    /// The broker, for --publish live and the scenario append; its user must be allowed to publish.
    #[arg(long, env = "NATS_URL", hide_env_values = true, default_value = "nats://127.0.0.1:4222")]
    pub(crate) nats_url: String,
    /// Number of shards of the log, for --publish live.
    #[arg(long, env = "ROOMCAST_SHARDS", default_value_t = 8)]
    pub(crate) shards: u16,
    /// Secret that signs the tokens; by default the file secrets/jwt of the data folder.
    #[arg(long, env = "ROOMCAST_JWT_SECRET", hide_env_values = true)]
    pub(crate) jwt_secret: Option<String>,
    /// The data folder of deploy/up.
    #[arg(long, env = "ROOMCAST_DATA", default_value = "data")]
    pub(crate) data: PathBuf,
    /// Number of rooms; the default depends on the scenario.
    #[arg(long)]
    rooms: Option<usize>,
    /// Sockets of each room; the default depends on the scenario.
    #[arg(long)]
    sockets: Option<usize>,
    /// Messages per second, in all rooms together; the default depends on the scenario.
    #[arg(long)]
    rate: Option<f64>,
    /// How many sockets per second leave their rooms, and join again; by default 100 in mixed, 2,000 in joins.
    #[arg(long)]
    churn: Option<f64>,
    /// In storm, how many messages each writer sends while all sockets are closed.
    #[arg(long, default_value_t = 100)]
    pub(crate) missed: u64,
    /// In idle, number of extra rooms that each socket follows alone: measures the memory of a room.
    #[arg(long, default_value_t = 0)]
    pub(crate) others: usize,
    /// Writers of each room.
    #[arg(long, default_value_t = 1)]
    pub(crate) writers: usize,
    /// Bytes of a message's text.
    #[arg(long, default_value_t = 128)]
    pub(crate) size: usize,
    /// Connections that send messages by HTTP.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Seconds before the measurement begins.
    #[arg(long, default_value_t = 2)]
    pub(crate) warmup: u64,
    /// Seconds to measure.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Searches the highest rate that the server sustains.
    #[arg(long)]
    pub(crate) max: bool,
    /// With --max, the highest 99th percentile of latency that counts as sustained, in milliseconds.
    #[arg(long, default_value_t = 100.0)]
    pub(crate) p99: f64,
    /// A process to measure, with its children, as name=pid; may be repeated. By default, those that listen at
    /// --address.
    #[arg(long = "pid", value_name = "NAME=PID")]
    pub(crate) pids: Vec<NamedProcess>,
    /// A folder of files NAME.pid, whose first lines are the ids of more processes to measure: the folder run in
    /// the data folder of deploy/up or deploy/cluster.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) pids_in: Option<PathBuf>,
    /// Sockets that are closed reconnect and resume, as clients do, and must get what they missed: for runs in which
    /// nodes of the server are killed.
    #[arg(long)]
    pub(crate) reconnect: bool,
    /// The CPU that this program is pinned to.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
    /// Writes the result to this file as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Writes the result to this file as an HTML page with plots.
    #[arg(long)]
    pub(crate) html: Option<PathBuf>,
}

impl std::fmt::Debug for LoadArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadArgs").field("scenario", &self.scenario).finish_non_exhaustive()
    }
}

impl LoadArgs {
    /// The number of rooms.
    pub(crate) fn rooms(&self) -> usize {
        self.rooms.unwrap_or(self.scenario.defaults().0).max(1)
    }

    /// The number of sockets of each room.
    pub(crate) fn sockets_per_room(&self) -> usize {
        let needs_no_sockets = self.scenario == Scenario::Append && self.publish != PublishMethod::Socket;
        self.sockets.unwrap_or(if needs_no_sockets { 0 } else { self.scenario.defaults().1 })
    }

    /// Messages per second, in all rooms together.
    pub(crate) fn messages_per_second(&self) -> f64 {
        self.rate.unwrap_or(self.scenario.defaults().2)
    }

    /// How many sockets per second leave their rooms, and join again.
    pub(crate) fn churn_per_second(&self) -> f64 {
        self.churn.unwrap_or(if self.scenario == Scenario::Joins { 2_000.0 } else { 100.0 })
    }

    /// The addresses of api.
    pub(crate) fn api_addresses(&self) -> Vec<SocketAddr> {
        if self.api.is_empty() { self.address.clone() } else { self.api.clone() }
    }
}
