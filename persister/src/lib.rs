//! persister writes the log to Postgres, as its only writer, and owns the log's streams.
//!
//! Each shard is read in order and written in batches. The watermark moves in the transaction that writes the rows, so
//! each event is applied exactly once, whichever process dies at whatever moment. It serves no clients.
//!
//! `shard` writes one shard of the log; `leadership` decides which shards this process writes; `streams` manages the
//! log's streams; `search` fills the full-text index behind the watermark. `recover` and `replay` are commands for
//! operators.

#[cfg(feature = "bench")]
pub mod bench;
mod config;
mod database;
mod leadership;
mod recover;
mod replay;
mod schema;
mod search;
mod shard;
mod streams;

use std::{
    sync::{Arc, atomic::AtomicU64},
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

pub use config::{Config, StreamArgs, WriteDatabaseArgs};
pub use recover::{RecoveryFinding, recover};
pub use replay::{RejectedEventOutcome, ReplayedEvent, replay_rejected};

use crate::{
    database::{DatabaseConnector, SessionPool},
    leadership::{Leadership, ShardLeadership},
    search::SearchQueue,
    shard::{
        committer::{self, GroupCommit},
        maintenance::row_cleanup,
        status::{ShardMetrics, ShardStatus},
        watermark::{self, Watermark},
        worker::{self, ShardWorker},
    },
    streams::{ensure, verify},
};

/// Maximum wait at start for the database, and for each shard's stream.
const FIRST_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between attempts during that wait.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Runs the persister, with its admin port, until the soft stop or until a task fails.
///
/// # Errors
/// When the persister can't start, or one of its tasks fails.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let metrics = telemetry::install_metrics();
    let health = Health::new(&config.admin.health);
    let mut tasks = Tasks::new(&shutdown);
    // Before everything that waits, so that `/readyz` answers while the persister waits for its database.
    if let Some(listener) = config.admin.bind().await? {
        let limits = ServeLimits { max_connections: 256, ..ServeLimits::internal() };
        let router = admin::router(health.clone(), metrics);
        tasks.spawn("admin", serve::serve("admin", listener, router, limits, shutdown.clone()));
    }
    start(&config, &health, &shutdown, &mut tasks).await?;
    tasks.wait(&shutdown).await
}

/// Prepares tables and streams, and starts the persister's tasks.
///
/// # Errors
/// When the configuration is wrong, or the database or the broker can't be used. The message names the variable where
/// one is at fault.
pub async fn start(
    config: &Config,
    health: &Health,
    shutdown: &Shutdown,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let postgres_health = health.component("postgres");
    let broker_health = health.component("persister_nats");
    let status = ShardStatus::new(health.component("persister"));
    let shards = config.log.shard_count()?;
    let database = DatabaseConnector::new(&config.database)?;
    let batch_sessions = SessionPool::new("batches", database.clone(), config.database.persister_sessions)?;
    let indexing_database = database.clone().with_statement_timeout(search::STATEMENT_TIMEOUT);
    let indexing_sessions = SessionPool::new("search", indexing_database, 1)?;
    let maintenance_database = database.clone().with_statement_timeout(row_cleanup::STATEMENT_TIMEOUT);
    let maintenance_sessions = SessionPool::new("maintenance", maintenance_database, 1)?;

    let connection = nats::connect(&config.nats, BrokerUser::Persister).await?;
    // Subscribed before the checks below, so that no later reconnection is missed.
    let events = connection.events();
    verify::require_safe_server(&connection.client, config.log.replicas)?;
    broker_health.ready();
    let jetstream = connection.jetstream();

    let mut session = connect_with_retries(&database).await?;
    tokio::select! {
        prepared = schema::prepare(&mut session, shards) => prepared?,
        // Migrations wait without limit for locks that other sessions hold.
        () = shutdown.soft.cancelled() => return Ok(()),
    }
    for shard in shards.all() {
        let watermark = watermark::read(&mut session, shard).await?;
        ensure_stream_with_retries(&jetstream, &config.log, shard, &watermark).await?;
    }
    session.close().await?;
    health.set_replicas(usize::from(config.log.replicas));

    let leadership = Arc::new(Leadership::new(shards));
    let search_queue = Arc::new(SearchQueue::default());
    let boot_id = config.broker_boot_id();
    let (recheck, rechecks) = watch::channel(0);
    let highest_seen: Arc<[Arc<HighestSeen>]> = shards.all().map(|_| Arc::default()).collect();
    let log_ends = connection.client.subscribe(subject::LOG_END_ALL).await?;
    tasks
        .spawn("log ends", watch_log_ends(log_ends, highest_seen.clone(), recheck.clone(), shutdown.clone()));
    let group_commit =
        if config.database.persister_group_commit { GroupCommit::On } else { GroupCommit::Off };
    let (committer, committer_task) =
        committer::new(shards.all().count(), batch_sessions.clone(), group_commit);
    let workers: Vec<ShardWorker> = shards
        .all()
        .map(|shard| ShardWorker {
            shard,
            client: connection.client.clone(),
            jetstream: jetstream.clone(),
            batch_sessions: batch_sessions.clone(),
            committer: committer.clone(),
            maintenance_sessions: maintenance_sessions.clone(),
            stream_args: config.log.clone(),
            status: status.clone(),
            leadership: ShardLeadership::new(leadership.clone(), shard),
            rechecks: rechecks.clone(),
            shutdown: shutdown.clone(),
            metrics: ShardMetrics::new(shard),
            watermark_seq: AtomicU64::new(worker::WATERMARK_UNKNOWN),
            retries: Arc::default(),
            highest_seen: highest_seen[shard.index()].clone(),
            search_queue: search_queue.clone(),
            boot_id: boot_id.clone(),
        })
        .collect();
    join_all(workers.iter().map(ShardWorker::verify_log_at_start)).await;
    for worker in workers {
        tasks.spawn("shard", worker.run());
    }
    // It ends after the workers, which hold the only handles to it.
    drop(committer);
    tasks.spawn("committer", committer_task.run());
    tasks.spawn(
        "search",
        search::run_indexer(indexing_sessions, leadership.clone(), search_queue, shutdown.clone()),
    );
    tasks.spawn(
        "locks",
        leadership::run_lock_session(database, leadership, postgres_health, shutdown.clone()),
    );
    tasks.spawn("broker", watch_connection(events, recheck, broker_health, shutdown.clone()));
    Ok(())
}

/// Ensures a shard's stream. Retries transient errors for up to [`FIRST_CONNECT_TIMEOUT`].
async fn ensure_stream_with_retries(
    jetstream: &jetstream::Context,
    args: &StreamArgs,
    shard: Shard,
    watermark: &Watermark,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + FIRST_CONNECT_TIMEOUT;
    loop {
        match ensure::ensure_stream(jetstream, args, shard, watermark.first_epoch()).await {
            Err(error) if ensure::is_transient(&error) => {
                if Instant::now() >= deadline {
                    return Err(error.context("NATS_URL: JetStream is not available"));
                }
                tracing::info!(
                    error = format!("{error:#}"),
                    "shard {shard}: its stream is not available, retrying"
                );
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            result => return result,
        }
    }
}

async fn connect_with_retries(database: &DatabaseConnector) -> anyhow::Result<PgConnection> {
    let deadline = Instant::now() + FIRST_CONNECT_TIMEOUT;
    loop {
        match database.connect().await {
            Ok(session) => return Ok(session),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).context("DATABASE_URL: can't connect to the database");
            }
            Err(error) => {
                tracing::info!(error = format!("{error:#}"), "can't connect to the database, retrying");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }
}

/// Receives the last events that api and fanout have seen in each log. Requests a recheck of all shards if one of them
/// is later than what this process has seen.
async fn watch_log_ends(
    mut log_ends: Subscriber,
    highest_seen: Arc<[Arc<HighestSeen>]>,
    recheck: watch::Sender<u64>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    loop {
        let message = tokio::select! {
            message = log_ends.next() => message.context("the connection to the broker is closed")?,
            () = shutdown.soft.cancelled() => return Ok(()),
        };
        let shard = subject::notice_shard(&message.subject).ok();
        let shard_highest_seen = shard.and_then(|shard| highest_seen.get(shard.index()));
        let log_end = serde_json::from_slice::<LogEnd>(&message.payload).ok();
        if let (Some(shard_highest_seen), Some(log_end)) = (shard_highest_seen, log_end)
            && shard_highest_seen.note(log_end.epoch, log_end.seq)
        {
            recheck.send_modify(|count| *count += 1);
        }
    }
}

/// Requests a recheck of all shards on each new connection to the broker, because the log may have changed meanwhile.
async fn watch_connection(
    mut events: broadcast::Receiver<NatsEvent>,
    recheck: watch::Sender<u64>,
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
                recheck.send_modify(|count| *count += 1);
            }
            Ok(NatsEvent::Closed) => anyhow::bail!("the connection to the broker is closed"),
            Ok(NatsEvent::Disconnected) => component.not_ready("the broker is not reachable"),
            Ok(NatsEvent::SlowConsumer) => {}
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}
