//! `roomcast up`: the three services in one process, their routers and the admin router on one port.
//!
//! What must hold: on the port of clients, metrics are for this machine alone. Each service keeps its own broker user and database role, so that what one may not do
//! is refused here as it is in a cluster. Their own flags are read from the environment.

use std::{net::SocketAddr, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser};
use shared::{
    admin::{self, Health},
    config::{self, AdminArgs, DrainArgs, LogFormatArgs},
    lifecycle::{Shutdown, Tasks, run_main},
    serve::{self, Limits},
    telemetry,
};

/// What the one-machine program is told. Everything else that a service understands is read from the
/// environment: `roomcast-api --help`, `roomcast-fanout --help` and `roomcast-persister --help` list it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Config {
    /// Where clients connect.
    #[arg(long, env = "ROOMCAST_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    log: LogFormatArgs,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    drain: DrainArgs,
}

/// Where broker and database are, for each service as its own user.
#[derive(Clone, Args)]
pub(crate) struct Places {
    /// The broker, for each service that has no URL of its own.
    #[arg(long, env = "NATS_URL", hide_env_values = true, default_value = "nats://127.0.0.1:4222")]
    nats_url: String,
    /// The broker as api's user.
    #[arg(long, env = "ROOMCAST_API_NATS_URL", hide_env_values = true)]
    api_nats_url: Option<String>,
    /// The broker as fanout's user.
    #[arg(long, env = "ROOMCAST_FANOUT_NATS_URL", hide_env_values = true)]
    fanout_nats_url: Option<String>,
    /// The broker as the persister's user.
    #[arg(long, env = "ROOMCAST_PERSISTER_NATS_URL", hide_env_values = true)]
    persister_nats_url: Option<String>,
    /// The database, for each service that has no URL of its own.
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "postgres://127.0.0.1/roomcast"
    )]
    database_url: String,
    /// The database as api's role.
    #[arg(long, env = "ROOMCAST_API_DATABASE_URL", hide_env_values = true)]
    api_database_url: Option<String>,
    /// The database as the persister's role.
    #[arg(long, env = "ROOMCAST_PERSISTER_DATABASE_URL", hide_env_values = true)]
    persister_database_url: Option<String>,
}

impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Places { <secret> }")
    }
}

impl Places {
    pub(crate) fn api_nats(&self) -> &str {
        self.api_nats_url.as_deref().unwrap_or(&self.nats_url)
    }

    pub(crate) fn fanout_nats(&self) -> &str {
        self.fanout_nats_url.as_deref().unwrap_or(&self.nats_url)
    }

    pub(crate) fn persister_nats(&self) -> &str {
        self.persister_nats_url.as_deref().unwrap_or(&self.nats_url)
    }

    pub(crate) fn api_database(&self) -> &str {
        self.api_database_url.as_deref().unwrap_or(&self.database_url)
    }

    pub(crate) fn persister_database(&self) -> &str {
        self.persister_database_url.as_deref().unwrap_or(&self.database_url)
    }
}

/// A service's flags as a program's.
#[derive(Parser)]
struct Service<T: Args> {
    #[command(flatten)]
    config: T,
}

/// The configuration of one service: these flags, and its environment for all others.
fn service<T: Args>(name: &str, flags: &[(&str, &str)]) -> Result<T, String> {
    let flags = flags.iter().map(|(flag, value)| format!("--{flag}={value}"));
    let service: Service<T> = config::read(std::iter::once(name.to_owned()).chain(flags))?;
    Ok(service.config)
}

/// The three services as `up` starts them.
pub(crate) struct Services {
    api: api::Config,
    fanout: fanout::Config,
    persister: persister::Config,
}

impl Services {
    /// Reads what each is told.
    pub(crate) fn read(places: &Places) -> Result<Self, String> {
        let (nats, database) = ("nats-url", "database-url");
        Ok(Self {
            api: service("roomcast-api", &[(nats, places.api_nats()), (database, places.api_database())])?,
            fanout: service("roomcast-fanout", &[(nats, places.fanout_nats())])?,
            persister: Self::persister(places)?,
        })
    }

    /// Who may use the customer desk.
    pub(crate) const fn support(&self) -> api::config::SupportArgs {
        self.api.api.support
    }

    /// Reads what the persister alone is told.
    pub(crate) fn persister(places: &Places) -> Result<persister::Config, String> {
        service(
            "roomcast-persister",
            &[("nats-url", places.persister_nats()), ("database-url", places.persister_database())],
        )
    }
}

/// Runs it all; the exit code is that of [`run_main`].
pub(crate) fn main(config: Config) -> ExitCode {
    let services = Services::read(&config.places).unwrap_or_else(|line| config::refuse(&line));
    telemetry::init_logs(&config.log);
    run_main("roomcast", config.drain.time(), move |shutdown| run(config, services, shutdown))
}

async fn run(config: Config, services: Services, shutdown: Shutdown) -> anyhow::Result<()> {
    let Services { api, fanout, persister } = services;
    let metrics = telemetry::install_metrics();
    let health = Health::new(&config.admin.health);
    // Two stages: what sockets need to say goodbye stops after them.
    let (mut edge, mut core) = (Tasks::new(&shutdown), Tasks::new(&shutdown));
    let stop = shutdown.clone();
    let last = Shutdown { soft: shutdown.hard.child_token(), hard: shutdown.hard.clone() };
    // The port first: a taken one is said before anything else is touched.
    let listener = serve::bind(config.listen).await.context("ROOMCAST_LISTEN")?;
    if let Some(listener) = config.admin.bind().await? {
        let router = admin::router(health.clone(), metrics.clone());
        core.spawn("admin", serve::serve("admin", listener, router, Limits::inside(), last.clone()));
    }
    let limits = Limits::new(&api.api.connections, &api.api.address);
    let address = api.api.address.clone();
    // The persister makes the streams that the others wait for.
    persister::start(&persister, &health, &last, &mut core).await?;
    let api = api::start(&api, &health, &last, &mut core).await?;
    let fanout = fanout::start(&fanout, &health, &shutdown, &mut edge).await?;
    let router = api.merge(fanout).merge(admin::router_for_clients(health, metrics, address));
    edge.spawn("listener", serve::serve("roomcast", listener, router, limits, shutdown.clone()));
    core.spawn("sockets and listener", async move {
        let _stop_the_rest = last.soft.drop_guard();
        edge.wait(&shutdown).await
    });
    core.wait(&stop).await
}
