//! api decides: it validates, authorises and appends events, and answers reads from Postgres.
//!
//! It holds no socket and writes nothing to Postgres. For each request a dialect decodes it, a command decides and
//! appends, a query reads, and the dialect encodes the answer.

mod access;
pub mod append;
#[cfg(feature = "bench")]
pub mod bench;
mod commands;
pub mod config;
mod cors;
mod database;
mod dialects;
mod documents;
mod fanout_nodes;
#[cfg(fuzzing)]
pub mod fuzz;
mod limits;
mod page;
mod persister_lag;
mod pictures;
mod queries;
mod rpc;
mod schema;
mod server;
mod state;
mod web;

use std::{sync::Arc, time::Duration};

use crate::append::Appender;
use anyhow::Context as _;
use axum::Router;
use log::AppliedWatch;
use quick_cache::sync::Cache;
use service::{
    admin::{self, Health, HealthComponent},
    lifecycle::{Shutdown, Tasks},
    local_api::LocalApi,
    nats::{self, BrokerConnection, BrokerUser},
    serve, telemetry,
    token::TokenVerifier,
};
use tokio::sync::{Semaphore, watch};

use access::AccessCache;
use commands::state::{Caches, CommandSettings, CommandState, LogAccess};
use commands::{read_marks::ReadMarkThrottle, search};
pub use config::{ApiArgs, Config, DatabaseArgs};
use database::ReadPool;
use limits::ApiLimits;
use persister_lag::PersisterLag;
use pictures::PictureStore;
use rpc::LocalRequests;
use schema::SchemaCheck;
use state::{ApiState, DialectSettings, Gate};

/// Maximum people whose newest stored token a node remembers.
const PROFILES_CACHED_MAX: usize = 100_000;

/// A started node.
#[derive(Debug)]
pub struct ApiNode {
    /// Its routes.
    pub router: Router,
    /// Takes requests of a fan-out node of this process.
    pub local: Arc<dyn LocalApi>,
}

/// Starts a node's tasks.
///
/// # Errors
/// Fails if the configuration is wrong, or if the broker or the log is not reachable. Postgres may be down.
pub async fn start(
    config: &Config,
    health: &Health,
    shutdown: &Shutdown,
    tasks: &mut Tasks,
) -> anyhow::Result<ApiNode> {
    let component = health.component("api");
    let verifier = TokenVerifier::start(&config.token, shutdown).await?;
    let pool = ReadPool::open(&config.database, config.api.read_connections)?;
    let connection = nats::connect(&config.nats, BrokerUser::Api).await?;
    let jetstream = connection.jetstream();
    let info = log::discover(&jetstream).await?;
    health.set_replicas(info.replicas);
    let connections = config.api.append_connections;
    let applied = AppliedWatch::start(&connection.client, info.shards).await?;
    let rights = Arc::new(AccessCache::new(pool.clone(), jetstream.clone(), info.shards, applied.clone()));
    let pictures = Arc::new(PictureStore::open(&config.api.media).context("ROOMCAST_MEDIA")?);
    let limits = Arc::new(ApiLimits::new(&config.api.limits));
    let commands = Arc::new(CommandState {
        shards: info.shards,
        log: LogAccess {
            appender: Appender::start(&config.nats, info.shards, connections, &shutdown.hard).await?,
            applied,
            nats_client: connection.client.clone(),
            jetstream,
        },
        pool,
        access: rights.clone(),
        persister_lag: PersisterLag::new(info.shards),
        limits: limits.clone(),
        settings: CommandSettings {
            text_max_chars: config.api.text_max,
            support_visitors: config.api.support.support_visitors,
            support_open: config.api.support.support_open,
        },
        read_marks: ReadMarkThrottle::default(),
        caches: Caches {
            profile_issued_at: Cache::new(PROFILES_CACHED_MAX),
            match_rooms: commands::match_rooms::RecentMatchRooms::default(),
        },
        pictures: pictures.clone(),
        search_permits: Semaphore::new(search::CONCURRENT_SEARCHES_MAX),
    });
    let listener_connection = nats::connect(&config.nats, BrokerUser::Api).await?;
    tasks.spawn_background("rights", access::listen(rights, listener_connection));
    let (may_serve_tx, may_serve_rx) = watch::channel(false);
    let local = LocalRequests::default();
    tasks.spawn(
        "rpc",
        serve_rpc(commands.clone(), connection.client.clone(), local.clone(), may_serve_rx, shutdown.clone()),
    );
    tasks.spawn("nodes", fanout_nodes::watch(commands.clone(), connection.client.clone(), shutdown.clone()));
    tasks.spawn(
        "readiness",
        watch_readiness(commands.clone(), connection, component, may_serve_tx, shutdown.clone()),
    );
    let router = server::router(ApiState {
        commands,
        gate: Arc::new(Gate {
            verifier,
            origins: config.origins.clone(),
            client_address_args: config.api.address.clone(),
            limits,
        }),
        dialects: Arc::new(DialectSettings {
            low_account: config.api.low_account,
            support_tokens: config.api.support.support_tokens,
            topic_categories: config.api.topics.clone(),
        }),
        pictures,
    });
    Ok(ApiNode { router, local: Arc::new(local) })
}

/// Interval between checks whether the node is ready.
const READINESS_INTERVAL: Duration = Duration::from_secs(1);
/// The interval until the node is ready for the first time.
const STARTUP_READINESS_INTERVAL: Duration = Duration::from_millis(100);

/// Reports whether the node is ready to serve requests.
async fn watch_readiness(
    api: Arc<CommandState>,
    connection: BrokerConnection,
    component: HealthComponent,
    may_serve_tx: watch::Sender<bool>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut was_ready = false;
    let mut probe = api.pool.probe();
    let mut schema = SchemaCheck::new(may_serve_tx);
    loop {
        let pause = if was_ready { READINESS_INTERVAL } else { STARTUP_READINESS_INTERVAL };
        tokio::select! {
            () = shutdown.soft.cancelled() => {
                component.not_ready("stopping");
                return Ok(());
            }
            () = tokio::time::sleep(pause) => {}
        }
        let is_connected = connection.client.connection_state() == async_nats::connection::State::Connected;
        if !is_connected {
            component.not_ready("no connection to the broker");
        } else if let Err(reason) = api.log.appender.check() {
            component.not_ready(reason);
        } else if let Err(reason) = schema.check(probe.read_schema_version().await) {
            component.not_ready(reason);
        } else if !was_ready && !api.access.knows_log_ends() {
            // Access to rooms that were created before and that Postgres lacks could not be decided. Checked only at
            // the start: a shard that has no leader later must not stop the other shards.
            component.not_ready("it is not known yet where the log ends");
        } else {
            was_ready = true;
            component.ready();
        }
    }
}

/// Answers fan-out nodes, once the schema is known to fit or Postgres does not answer: until the persister is
/// upgraded, api nodes of the version before go on answering.
async fn serve_rpc(
    api: Arc<CommandState>,
    client: async_nats::Client,
    local: LocalRequests,
    mut fits: watch::Receiver<bool>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    tokio::select! {
        fitting = fits.wait_for(|fits| *fits) => fitting.map(drop).context("readiness is not watched")?,
        () = shutdown.soft.cancelled() => return Ok(()),
    }
    rpc::serve(api, client, local, shutdown).await
}

/// Runs a node until it is stopped.
///
/// # Errors
/// Fails if the node can't start, or if one of its tasks fails.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let metrics = telemetry::install_metrics();
    let health = Health::new(&config.admin.health);
    let mut tasks = Tasks::new(&shutdown);
    let listener = serve::bind(config.listen).await.context("ROOMCAST_LISTEN")?;
    if let Some(listener) = config.admin.bind().await? {
        let router = admin::router(health.clone(), metrics);
        tasks.spawn(
            "admin",
            serve::serve("admin", listener, router, serve::ServeLimits::internal(), shutdown.clone()),
        );
    }
    let ApiNode { router, .. } = start(&config, &health, &shutdown, &mut tasks).await?;
    let limits = serve::ServeLimits::new(&config.api.connections, &config.api.address);
    tasks.spawn("http", serve::serve("http", listener, router, limits, shutdown.clone()));
    tasks.wait(&shutdown).await
}
