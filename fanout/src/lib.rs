//! fanout holds the sockets and pushes the log to them.
//!
//! It accepts, authenticates, subscribes, encodes and pushes. It never touches Postgres and never
//! decides who may do what: api decides every stored action.
//!
//! For a socket, `accept` checks the handshake, `session` reads frames and sends their actions to api, and `node` hands
//! subscriptions to the task of the channel's `shard`. For an event, the `shard`'s task receives it, `encode` makes its
//! frame once per format, and each subscriber's `outbox` writes the frame. `presence` appends, through api, the joins
//! and leaves of the people on this node.

mod accept;
mod api_client;
#[cfg(any(test, feature = "bench"))]
pub mod bench;
pub mod config;
mod drain;
#[cfg(feature = "echo")]
pub mod echo;
mod encode;
#[cfg(fuzzing)]
pub mod fuzz;
mod handshake;
mod heartbeat;
mod limits;
mod node;
mod outbox;
mod presence;
mod session;
mod shard;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::Context as _;
use axum::Router;
use futures_util::StreamExt as _;
use log::{AppliedWatch, SyncHint};
use protocol::{id::Shard, subject};
use service::{
    admin::{self, Health},
    lifecycle::{Shutdown, Tasks},
    local_api::LocalApi,
    metric_names as names,
    nats::{self, BrokerUser},
    random, serve, telemetry,
    token::TokenVerifier,
};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

pub use config::{Config, FanoutArgs};
use limits::SocketLimits;
use node::Node;
use outbox::registry::SocketRegistry;
use presence::PresencePublisher;
use shard::{PeopleReady, ShardContext, ShardPositions, ShardTask, ring_budget::RingBudget};

/// Maximum commands that wait for one shard's task.
const COMMAND_QUEUE_MAX: usize = 1_024;
/// Maximum sync hints that wait for the slowest shard's task. A task that misses a hint catches up without it.
const HINT_QUEUE_MAX: usize = 1_024;

/// Interval between pushes of positions to sockets.
const POSITION_PUSH_INTERVAL: Duration = Duration::from_secs(25);
/// Number of sockets that are pushed their positions one right after the other.
const POSITION_PUSH_BATCH: usize = 32;
/// Pause before the next sockets, in which messages are pushed: they do not wait for thousands of position pushes.
const POSITION_PUSH_PAUSE: Duration = Duration::from_millis(2);

/// Starts a node's tasks, and returns the routes of its sockets. `local_api` is the api node of this process, if it has
/// one: it is asked first.
///
/// # Errors
/// If the broker or the log can't be reached, or the configuration of tokens is invalid.
pub async fn start(
    config: &Config,
    local_api: Option<Arc<dyn LocalApi>>,
    health: &Health,
    shutdown: &Shutdown,
    tasks: &mut Tasks,
) -> anyhow::Result<Router> {
    let component = health.component("fanout");
    let verifier = TokenVerifier::start(&config.token, shutdown).await?;
    let connection = nats::connect(&config.nats, BrokerUser::Fanout).await?;
    let jetstream = connection.jetstream();
    let shards = log::discover(&jetstream).await?.shards;
    let applied = AppliedWatch::start(&connection.client, shards).await?;
    let api = api_client::ApiClient::new(connection.client.clone(), local_api);
    let sockets = SocketRegistry::new(config.fanout.sockets_max, config.fanout.limits.sockets_person);
    let positions = Arc::new(ShardPositions::new(shards));
    let people = PeopleReady::new(shards);
    let retention_max = Duration::from_secs(config.fanout.replay_seconds);
    let rings = Arc::new(RingBudget::new(shards, config.fanout.rings_bytes, retention_max));
    let unstored = nats::connect_for_unstored(&config.nats, BrokerUser::Fanout).await?;
    tasks.spawn_background("unstored", count_dropped(unstored.events()));
    let context = ShardContext {
        client: connection.client.clone(),
        losses: connection.losses.clone(),
        ring_budget: rings,
        unstored_client: unstored.client.clone(),
        jetstream,
        shards,
        applied,
        api: api.clone(),
        sockets: sockets.clone(),
        positions: positions.clone(),
        people_ready: people.clone(),
    };
    let (hints, _) = broadcast::channel(HINT_QUEUE_MAX);
    // The shards' tasks run until the drain has closed the last socket.
    let drained = shutdown.hard.child_token();
    tasks.spawn("hints", forward_hints(context.clone(), hints.clone(), drained.clone()));

    let mut shard_tasks = Vec::new();
    for shard in shards.all() {
        let (commands, received) = mpsc::channel(COMMAND_QUEUE_MAX);
        shard_tasks.push(commands);
        let (hints, events) = (hints.subscribe(), connection.events());
        tasks.spawn(
            shard_task_name(shard),
            ShardTask::run(shard, context.clone(), received, hints, events, drained.clone()),
        );
    }
    let process_id = random::process_id();
    let node = Arc::new(Node {
        presence: PresencePublisher::new(api.clone(), shards, process_id),
        api,
        sockets: sockets.clone(),
        unstored_client: unstored.client,
        verifier,
        origins: config.origins.clone(),
        limits: SocketLimits::new(&config.fanout.limits),
        address: config.fanout.address.clone(),
        process_id,
        outbox_bytes: config.fanout.outbox_bytes,
        match_socket_max_age: Duration::from_secs(config.fanout.socket_max_age),
        shards,
        people_ready: people,
        shard_tasks,
        socket_counter: AtomicU64::new(0),
    });
    tasks.spawn("heartbeat", heartbeat::run(node.clone(), connection.client.clone(), drained.clone()));
    tasks.spawn("positions", push_positions(sockets, positions, drained.clone()));
    tasks.spawn("drain", drain::run(node.clone(), shutdown.clone(), config.drain.time(), drained));
    tasks.spawn("readiness", watch_readiness(connection, component, shutdown.clone()));
    Ok(accept::router(node, shutdown.clone()))
}

const fn shard_task_name(shard: Shard) -> &'static str {
    if shard.number() == Shard::SYSTEM.number() { "of the system shard" } else { "of a shard" }
}

/// Pushes to every socket, at an interval, the position in each shard up to which this node has pushed everything.
async fn push_positions(
    sessions: SocketRegistry,
    positions: Arc<ShardPositions>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(POSITION_PUSH_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        for batch in sessions.all().chunks(POSITION_PUSH_BATCH) {
            let frame = positions.frame();
            for outbox in batch {
                outbox.push_unstored(&frame);
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(POSITION_PUSH_PAUSE) => {}
            }
        }
    }
}

/// Forwards api's sync hints to the shards' tasks.
async fn forward_hints(
    context: ShardContext,
    hints: broadcast::Sender<SyncHint>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut messages = context.client.subscribe(subject::SYNC_ALL).await?;
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            message = messages.next() => message.context("the connection to the broker is closed")?,
        };
        if let Ok(hint) = serde_json::from_slice(&message.payload) {
            // An error means that no shard's task runs any more.
            let _ = hints.send(hint);
        }
    }
}

/// Counts the unstored messages that were dropped because they arrived faster than they could be pushed.
async fn count_dropped(mut events: broadcast::Receiver<nats::NatsEvent>) -> anyhow::Result<()> {
    let dropped = metrics::counter!(names::UNSTORED_DROPPED_TOTAL);
    loop {
        match events.recv().await {
            Ok(nats::NatsEvent::SlowConsumer) => dropped.increment(1),
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(missed)) => dropped.increment(missed),
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}

/// Reports the node as not ready while it is draining or not connected to the broker, so that new sockets are routed to
/// other nodes.
async fn watch_readiness(
    connection: nats::BrokerConnection,
    component: admin::HealthComponent,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut events = connection.events();
    component.ready();
    loop {
        let event = tokio::select! {
            () = shutdown.soft.cancelled() => {
                component.not_ready("draining");
                return Ok(());
            }
            event = events.recv() => event,
        };
        match event {
            Ok(nats::NatsEvent::Connected) => component.ready(),
            Ok(nats::NatsEvent::Disconnected | nats::NatsEvent::Closed) => {
                component.not_ready("no connection to the broker");
            }
            Ok(nats::NatsEvent::SlowConsumer) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}

/// Runs a node until it is stopped.
///
/// # Errors
/// If it can't start, or one of its tasks fails.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let metrics = telemetry::install_metrics();
    let health = Health::new(&config.admin.health);
    let mut tasks = Tasks::new(&shutdown);
    let listener = serve::bind(config.listen).await.context("ROOMCAST_LISTEN")?;
    let admin_listener = config.admin.bind().await?;
    if let Some(listener) = admin_listener {
        let router = admin::router(health.clone(), metrics);
        tasks.spawn(
            "admin",
            serve::serve("admin", listener, router, serve::ServeLimits::internal(), shutdown.clone()),
        );
    }
    let router = start(&config, None, &health, &shutdown, &mut tasks).await?;
    let limits = serve::ServeLimits::new(&config.fanout.connections, &config.fanout.address);
    tasks.spawn("sockets", serve::serve("sockets", listener, router, limits, shutdown.clone()));
    tasks.wait(&shutdown).await
}
