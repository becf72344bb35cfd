//! fanout holds the sockets and pushes the log to them.
//!
//! It accepts, authenticates, subscribes, renders and pushes. It never touches Postgres and never
//! decides who may do what: every stored action is asked of api. The way of an event: `feed` hears
//! it, `render` makes its frame once, `hub` knows who follows, `session` writes it.

mod accept;
mod ask;
#[cfg(any(test, feature = "bench"))]
pub mod bench;
pub mod config;
mod drain;
#[cfg(feature = "echo")]
pub mod echo;
mod feed;
#[cfg(fuzzing)]
pub mod fuzz;
mod handshake;
mod heartbeat;
mod hub;
mod limits;
mod node;
mod render;
mod session;

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
    metric_names as names,
    nats::{self, BrokerUser},
    serve, telemetry,
    token::TokenVerifier,
};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

pub use config::{Config, FanoutArgs};
use feed::{Feed, PeopleHeard, Positions, Source};
use hub::{presence::Presence, rings::Rings, sessions::Sessions};
use limits::Limits;
use node::Node;

/// Commands that may wait for one shard's task.
const COMMANDS: usize = 1_024;
/// Hints that may wait for the slowest shard's task; more, and it heals in any case.
const HINTS: usize = 1_024;

/// Between positions told to sockets.
const POSITIONS: Duration = Duration::from_secs(25);

/// Starts a node's tasks and gives the route of its sockets.
///
/// # Errors
/// When the broker or the log is not there.
pub async fn start(
    config: &Config,
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
    let ask = ask::Ask::new(connection.client.clone());
    let sessions = Sessions::new(config.fanout.sockets_max, config.fanout.limits.sockets_person);
    let positions = Arc::new(Positions::new(shards));
    let people = PeopleHeard::new(shards);
    let longest = Duration::from_secs(config.fanout.replay_seconds);
    let rings = Arc::new(Rings::new(shards, config.fanout.rings_bytes, longest));
    let unstored = nats::connect_for_unstored(&config.nats, BrokerUser::Fanout).await?;
    tasks.spawn_background("unstored", count_dropped(unstored.events()));
    let source = Source {
        client: connection.client.clone(),
        losses: connection.losses.clone(),
        rings,
        unstored: unstored.client.clone(),
        jetstream,
        shards,
        applied,
        ask: ask.clone(),
        sessions: sessions.clone(),
        positions: positions.clone(),
        people: people.clone(),
    };
    let (hints, _) = broadcast::channel(HINTS);
    // The shards' tasks serve until the last socket is closed.
    let drained = shutdown.hard.child_token();
    tasks.spawn("hints", hear_hints(source.clone(), hints.clone(), drained.clone()));

    let mut feeds = Vec::new();
    for shard in shards.all() {
        let (commands, received) = mpsc::channel(COMMANDS);
        feeds.push(commands);
        let (hints, events) = (hints.subscribe(), connection.events());
        tasks.spawn(
            feed_name(shard),
            Feed::run(shard, source.clone(), received, hints, events, drained.clone()),
        );
    }
    let process = rand::random();
    let node = Arc::new(Node {
        presence: Presence::new(ask.clone(), shards, process),
        ask,
        sessions: sessions.clone(),
        client: unstored.client,
        verifier,
        origins: config.origins.clone(),
        limits: Limits::new(&config.fanout.limits),
        address: config.fanout.address.clone(),
        process,
        outbox_bytes: config.fanout.outbox_bytes,
        max_age: Duration::from_secs(config.fanout.socket_max_age),
        shards,
        people,
        feeds,
        connections: AtomicU64::new(0),
    });
    tasks.spawn("heartbeat", heartbeat::run(node.clone(), connection.client.clone(), drained.clone()));
    tasks.spawn("positions", tell_positions(sessions, positions, drained.clone()));
    tasks.spawn("drain", drain::run(node.clone(), shutdown.clone(), config.drain.time(), drained));
    tasks.spawn("readiness", watch_readiness(connection, component, shutdown.clone()));
    Ok(accept::router(node, shutdown.clone()))
}

const fn feed_name(shard: Shard) -> &'static str {
    if shard.number() == Shard::SYSTEM.number() { "feed of the system stream" } else { "feed" }
}

/// Tells every socket up to where it has all there is.
async fn tell_positions(
    sessions: Sessions,
    positions: Arc<Positions>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(POSITIONS);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let frame = positions.frame();
        for outbox in sessions.all() {
            outbox.push_unstored(&frame);
        }
    }
}

/// Passes api's hints on to the shards' tasks.
async fn hear_hints(
    source: Source,
    hints: broadcast::Sender<SyncHint>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut heard = source.client.subscribe(subject::SYNC_ALL).await?;
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            message = heard.next() => message.context("the connection to the broker is closed")?,
        };
        if let Ok(hint) = serde_json::from_slice(&message.payload) {
            // No task, no interest.
            let _ = hints.send(hint);
        }
    }
}

/// Counts what was never stored and came faster than it could be pushed.
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

/// A node without its broker is not ready: new sockets should go elsewhere.
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
/// When it can't start, or one of its tasks fails.
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
            serve::serve("admin", listener, router, serve::ServeLimits::inside(), shutdown.clone()),
        );
    }
    let router = start(&config, &health, &shutdown, &mut tasks).await?;
    let limits = serve::ServeLimits::new(&config.fanout.connections, &config.fanout.address);
    tasks.spawn("sockets", serve::serve("sockets", listener, router, limits, shutdown.clone()));
    tasks.wait(&shutdown).await
}
