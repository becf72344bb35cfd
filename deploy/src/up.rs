//! Implements `roomcast up`: the three services in one process, their routers and the admin router on one port.
//!
//! What must hold: on the port of clients, only this machine may read metrics. Each service has its own broker user
//! and database role, so that it has no more rights here than in a cluster. The services' other settings are read from
//! the environment.

use std::{
    ffi::{OsStr, OsString},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Parser};
use service::{
    admin::{self, Health},
    config::{self, AdminArgs, DrainArgs, LogFormatArgs},
    lifecycle::{Shutdown, Tasks, run_main},
    nats::NatsArgs,
    serve::{self, ServeLimits},
    telemetry,
};

/// Configuration of the one-machine program. All other settings of the services are read from the environment:
/// `roomcast-api --help`, `roomcast-fanout --help` and `roomcast-persister --help` list them.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    /// Where clients connect.
    #[arg(long, env = "ROOMCAST_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    #[command(flatten)]
    backends: BackendArgs,
    #[command(flatten)]
    log: LogFormatArgs,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    drain: DrainArgs,
}

/// URLs of broker and database, for each service with its own user.
#[derive(Clone, Args)]
pub(crate) struct BackendArgs {
    /// The broker, for each service that has no URL of its own.
    #[arg(long, env = "NATS_URL", hide_env_values = true, default_value = "nats://127.0.0.1:4222")]
    nats_url: String,
    /// A PEM file with the CA of the broker's certificate, if the system does not trust it.
    #[arg(long, env = "NATS_CA")]
    nats_ca: Option<PathBuf>,
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

impl std::fmt::Debug for BackendArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackendArgs { <secret> }")
    }
}

impl BackendArgs {
    /// The broker as api's user.
    pub(crate) fn api_nats(&self) -> NatsArgs {
        self.nats(self.api_nats_url.as_ref())
    }

    /// The broker as fanout's user.
    pub(crate) fn fanout_nats(&self) -> NatsArgs {
        self.nats(self.fanout_nats_url.as_ref())
    }

    /// The broker as the persister's user.
    pub(crate) fn persister_nats(&self) -> NatsArgs {
        self.nats(self.persister_nats_url.as_ref())
    }

    fn nats(&self, own_url: Option<&String>) -> NatsArgs {
        NatsArgs { nats_url: own_url.unwrap_or(&self.nats_url).clone(), nats_ca: self.nats_ca.clone() }
    }

    /// The database as api's role.
    pub(crate) fn api_database(&self) -> &str {
        self.api_database_url.as_deref().unwrap_or(&self.database_url)
    }

    /// The database as the persister's role.
    pub(crate) fn persister_database(&self) -> &str {
        self.persister_database_url.as_deref().unwrap_or(&self.database_url)
    }
}

/// Parses the flags of a service alone.
#[derive(Parser)]
struct ServiceProgram<T: Args> {
    #[command(flatten)]
    config: T,
}

/// Reads the configuration of one service: these URLs, and everything else from the environment.
fn read_service_config<T: Args>(name: &str, nats: &NatsArgs, database: Option<&str>) -> Result<T, String> {
    let flag = |name: &str, value: &OsStr| {
        let mut flag = OsString::from(format!("--{name}="));
        flag.push(value);
        flag
    };
    let mut arguments = vec![name.into(), flag("nats-url", nats.nats_url.as_ref())];
    arguments.extend(nats.nats_ca.as_ref().map(|file| flag("nats-ca", file.as_ref())));
    arguments.extend(database.map(|url| flag("database-url", url.as_ref())));
    let service: ServiceProgram<T> = config::read(arguments)?;
    Ok(service.config)
}

/// The configurations of the three services.
pub(crate) struct ServiceConfigs {
    api: api::Config,
    fanout: fanout::Config,
    persister: persister::Config,
}

impl ServiceConfigs {
    /// Reads the configurations of the three services.
    ///
    /// # Errors
    /// A line that names the invalid variable.
    pub(crate) fn read(backends: &BackendArgs) -> Result<Self, String> {
        Ok(Self {
            api: read_service_config("roomcast-api", &backends.api_nats(), Some(backends.api_database()))?,
            fanout: read_service_config("roomcast-fanout", &backends.fanout_nats(), None)?,
            persister: Self::read_persister(backends)?,
        })
    }

    /// The settings of the customer desk.
    pub(crate) const fn support_args(&self) -> api::config::SupportArgs {
        self.api.api.support
    }

    /// Reads only the configuration of the persister.
    pub(crate) fn read_persister(backends: &BackendArgs) -> Result<persister::Config, String> {
        read_service_config(
            "roomcast-persister",
            &backends.persister_nats(),
            Some(backends.persister_database()),
        )
    }
}

/// Runs the three services until they are told to stop; the exit code is that of [`run_main`].
pub(crate) fn main(config: UpArgs) -> ExitCode {
    let services =
        ServiceConfigs::read(&config.backends).unwrap_or_else(|line| config::exit_with_message(&line));
    telemetry::init_logs(&config.log);
    run_main("roomcast", config.drain.time(), move |shutdown| run(config, services, shutdown))
}

async fn run(config: UpArgs, services: ServiceConfigs, shutdown: Shutdown) -> anyhow::Result<()> {
    let ServiceConfigs { api, fanout, persister } = services;
    let metrics = telemetry::install_metrics();
    let health = Health::new(&config.admin.health);
    // Shutdown has two stages: first the sockets close, then the services, which closing sockets needs.
    let (mut socket_tasks, mut service_tasks) = (Tasks::new(&shutdown), Tasks::new(&shutdown));
    let stop = shutdown.clone();
    let services_shutdown = Shutdown { soft: shutdown.hard.child_token(), hard: shutdown.hard.clone() };
    // Before everything else: if the port is taken, the program fails without changing anything.
    let listener = serve::bind(config.listen).await.context("ROOMCAST_LISTEN")?;
    if let Some(listener) = config.admin.bind().await? {
        let router = admin::router(health.clone(), metrics.clone());
        service_tasks.spawn(
            "admin",
            serve::serve("admin", listener, router, ServeLimits::internal(), services_shutdown.clone()),
        );
    }
    let limits = ServeLimits::new(&api.api.connections, &api.api.address);
    let address = api.api.address.clone();
    // The persister first: it creates the streams that the other services wait for.
    persister::start(&persister, &health, &services_shutdown, &mut service_tasks).await?;
    let api = api::start(&api, &health, &services_shutdown, &mut service_tasks).await?;
    let fanout = fanout::start(&fanout, Some(api.local), &health, &shutdown, &mut socket_tasks).await?;
    let router = api.router.merge(fanout).merge(admin::router_for_clients(health, metrics, address));
    socket_tasks.spawn("listener", serve::serve("roomcast", listener, router, limits, shutdown.clone()));
    service_tasks.spawn("sockets and listener", async move {
        let _stop_the_rest = services_shutdown.soft.drop_guard();
        socket_tasks.wait(&shutdown).await
    });
    service_tasks.wait(&stop).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_address_and_certificate_reach_every_service() {
        let arguments =
            ["up", "--nats-url=tls://broker", "--fanout-nats-url=tls://other", "--nats-ca=a b.pem"];
        let program: ServiceProgram<BackendArgs> =
            config::read(arguments.map(OsString::from)).expect("flags");
        let services = ServiceConfigs::read(&program.config).expect("a configuration");
        for (nats, url) in [
            (&services.api.nats, "tls://broker"),
            (&services.fanout.nats, "tls://other"),
            (&services.persister.nats, "tls://broker"),
        ] {
            assert_eq!((&*nats.nats_url, nats.nats_ca.as_deref()), (url, Some("a b.pem".as_ref())));
        }
    }
}
