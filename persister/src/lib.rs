//! The persister: the only writer of Postgres, and the owner of the log's streams.
//!
//! Each shard is read in order and written in batches; the watermark moves in the transaction of
//! the rows, so each event applies exactly once, whoever dies when. It talks to no client.
//! `feed → batch → apply`, by one `worker` a shard; `lead` says which shards are this process's.

mod apply;
mod batch;
#[cfg(feature = "bench")]
pub mod bench;
mod closed;
mod config;
mod feed;
mod lead;
mod maintenance;
mod membership;
mod recover;
mod rejection;
mod repair;
mod replay;
mod retention;
mod retry;
mod revisions;
mod schema;
mod search;
mod session;
mod standing;
mod streams;
mod upkeep;
mod validate;
mod watermark;
mod worker;

use std::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use anyhow::Context as _;
use async_nats::{Subscriber, jetstream};
use futures_util::{StreamExt as _, future::join_all};
use log::{HighestSeen, LogEnd};
use protocol::{id::Shard, subject};
use service::{
    admin::{self, Health, HealthComponent},
    lifecycle::{Shutdown, Tasks},
    nats::{self, BrokerUser, NatsEvent},
    serve::{self, ServeLimits},
    telemetry,
};
use sqlx::{Connection as _, PgConnection};
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};

pub use config::{Config, DatabaseArgs, LogArgs};
pub use recover::{Finding, recover};
pub use replay::{Fate, Replayed, replay_rejected};

use crate::{
    lead::{Lead, Leads},
    search::Due,
    session::{Database, Writers},
    standing::{Meters, Standing},
    watermark::Place,
    worker::Worker,
};

/// How long the persister waits for the database, and for the log, when it starts.
const FIRST_CONNECT: Duration = Duration::from_secs(30);
/// Between tries.
const AGAIN: Duration = Duration::from_millis(500);

/// Runs the persister with its admin port, until the soft stop or a failure.
///
/// # Errors
/// When it can't start, or a task of it fails.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let metrics = telemetry::install_metrics();
    let health = Health::new(&config.admin.health);
    let mut tasks = Tasks::new(&shutdown);
    // Before everything that waits: a persister that waits for its database says so.
    if let Some(listener) = config.admin.bind().await? {
        let limits = ServeLimits { max_connections: 256, ..ServeLimits::inside() };
        let router = admin::router(health.clone(), metrics);
        tasks.spawn("admin", serve::serve("admin", listener, router, limits, shutdown.clone()));
    }
    start(&config, &health, &shutdown, &mut tasks).await?;
    tasks.wait(&shutdown).await
}

/// Prepares tables and streams, and starts the persister's tasks.
///
/// # Errors
/// One line that names the variable at fault.
pub async fn start(
    config: &Config,
    health: &Health,
    shutdown: &Shutdown,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let postgres = health.component("postgres");
    let broker = health.component("persister_nats");
    let standing = Standing::new(health.component("persister"));
    let shards = config.log.shard_count()?;
    let database = Database::new(&config.database)?;
    let writers = Writers::new("batches", database.clone(), config.database.persister_sessions)?;
    let hasty = database.clone().with_statement_timeout(search::STATEMENT_TIMEOUT);
    let indexers = Writers::new("search", hasty, 1)?;
    let hasty = database.clone().with_statement_timeout(maintenance::STATEMENT_TIMEOUT);
    let maintainers = Writers::new("maintenance", hasty, 1)?;

    let connection = nats::connect(&config.nats, BrokerUser::Persister).await?;
    // From here on no new connection goes unnoticed.
    let events = connection.events();
    streams::check_server(&connection.client, config.log.replicas)?;
    broker.ready();
    let jetstream = connection.jetstream();

    let mut session = first_session(&database).await?;
    tokio::select! {
        prepared = schema::prepare(&mut session, shards) => prepared?,
        // It may wait for the locks of others for as long as they hold them.
        () = shutdown.soft.cancelled() => return Ok(()),
    }
    for shard in shards.all() {
        let place = watermark::read(&mut session, shard).await?;
        ensure_shard(&jetstream, &config.log, shard, &place).await?;
    }
    session.close().await?;
    health.set_replicas(usize::from(config.log.replicas));

    let leads = Arc::new(Leads::new(shards));
    let due = Arc::new(Due::default());
    let boot = config.boot();
    let (doubt, doubts) = watch::channel(0);
    let seen: Arc<[Arc<HighestSeen>]> = shards.all().map(|_| Arc::default()).collect();
    let words = connection.client.subscribe(subject::LOG_END_ALL).await?;
    tasks.spawn("words", hear_words(words, seen.clone(), doubt.clone(), shutdown.clone()));
    let workers: Vec<Worker> = shards
        .all()
        .map(|shard| Worker {
            shard,
            client: connection.client.clone(),
            jetstream: jetstream.clone(),
            writers: writers.clone(),
            maintainers: maintainers.clone(),
            log: config.log.clone(),
            standing: standing.clone(),
            lead: Lead::new(leads.clone(), shard),
            doubts: doubts.clone(),
            shutdown: shutdown.clone(),
            meters: Meters::new(shard),
            watermark: AtomicU64::new(worker::UNKNOWN),
            retries: Mutex::default(),
            seen: seen[shard.index()].clone(),
            due: due.clone(),
            boot: boot.clone(),
        })
        .collect();
    join_all(workers.iter().map(Worker::prepare)).await;
    for worker in workers {
        tasks.spawn("shard", worker.run());
    }
    tasks.spawn("search", search::fill(indexers, leads.clone(), due, shutdown.clone()));
    tasks.spawn("locks", lead::hold(database, leads, postgres, shutdown.clone()));
    tasks.spawn("broker", note_reconnects(events, doubt, broker, shutdown.clone()));
    Ok(())
}

/// Asks for a stream until the broker has a word on it.
async fn ensure_shard(
    jetstream: &jetstream::Context,
    args: &LogArgs,
    shard: Shard,
    place: &Place,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + FIRST_CONNECT;
    loop {
        match streams::ensure_shard(jetstream, args, shard, place).await {
            Err(error) if streams::may_pass(&error) => {
                if Instant::now() >= deadline {
                    return Err(error.context("NATS_URL: JetStream does not answer"));
                }
                tracing::info!(error = format!("{error:#}"), "waiting for the log");
                tokio::time::sleep(AGAIN).await;
            }
            result => return result,
        }
    }
}

async fn first_session(database: &Database) -> anyhow::Result<PgConnection> {
    let deadline = Instant::now() + FIRST_CONNECT;
    loop {
        match database.connect().await {
            Ok(session) => return Ok(session),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).context("DATABASE_URL: no database");
            }
            Err(error) => {
                tracing::info!(error = format!("{error:#}"), "waiting for the database");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Hears how far others have seen the log to reach.
async fn hear_words(
    mut words: Subscriber,
    seen: Arc<[Arc<HighestSeen>]>,
    doubt: watch::Sender<u64>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    loop {
        let word = tokio::select! {
            word = words.next() => word.context("the connection to the broker is closed")?,
            () = shutdown.soft.cancelled() => return Ok(()),
        };
        let shard = subject::notice_shard(&word.subject).ok();
        let seen = shard.and_then(|shard| seen.get(shard.index()));
        let reached = serde_json::from_slice::<LogEnd>(&word.payload).ok();
        if let (Some(seen), Some(reached)) = (seen, reached)
            && seen.note(reached.epoch, reached.seq)
        {
            doubt.send_modify(|count| *count += 1);
        }
    }
}

/// Counts connections to the broker: behind each new one the log may be another.
async fn note_reconnects(
    mut events: broadcast::Receiver<NatsEvent>,
    doubt: watch::Sender<u64>,
    component: HealthComponent,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = shutdown.soft.cancelled() => return Ok(()),
        };
        match event {
            Ok(NatsEvent::Connected) | Err(broadcast::error::RecvError::Lagged(_)) => {
                component.ready();
                doubt.send_modify(|count| *count += 1);
            }
            Ok(NatsEvent::Closed) => anyhow::bail!("the connection to the broker is closed"),
            Ok(NatsEvent::Disconnected) => component.not_ready("the broker is not reachable"),
            Ok(NatsEvent::SlowConsumer) => {}
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}
