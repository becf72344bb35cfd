//! Keeps the connections to the broker that appends are sent over.
//!
//! What must hold: messages queued on a lost connection are dropped with it; otherwise one could be stored minutes
//! after its sender was told that it was not. A single broker that was restarted takes appends only after the
//! persister has checked its log, whose end may be lost, so that its ids would be given a second time. The persister
//! writes into the stream's description which process of the broker it has checked.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use async_nats::{
    connection::State,
    jetstream::{Context, context::ContextBuilder},
};
use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    LogPosition,
    closed_rooms::{ClosedRooms, is_closing},
};
use log::HighestSeen;
use protocol::{
    event::EventName,
    id::{RoomId, Shard, ShardCount},
    subject::{self, Channel},
};
use service::nats::{self, BrokerConnection, BrokerUser, NatsArgs, NatsEvent};

/// How long one attempt waits for its acknowledgement.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum unacknowledged appends of one connection.
const IN_FLIGHT_MAX: usize = 1_000;
/// Interval between attempts to connect, and between checks of a shard that takes no appends yet.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// Interval between reads of the closings that wait in the subscription.
const CLOSINGS_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long after it was opened a connection may get appends whose room was checked before that: a closing in between
/// was not received on it.
const NEW_CONNECTION_PERIOD: Duration = Duration::from_secs(10);
/// Marks a shard that takes no appends yet.
const EPOCH_NOT_VERIFIED: u64 = u64::MAX;
/// The epoch of every shard in a cluster: a replicated stream needs no check after a restart, since it does not lose
/// acknowledged events.
const EPOCH_NEEDS_NO_CHECK: u64 = 0;

/// A connection to append on, replaced whenever it is lost.
#[derive(Debug, Default)]
pub(super) struct AppendConnection {
    /// `None` while there is no connection.
    current: ArcSwapOption<LiveConnection>,
}

#[derive(Debug)]
pub(super) struct LiveConnection {
    pub(super) context: Context,
    /// The identity of the broker's process; `None` in a cluster.
    single_broker: Option<String>,
    /// By shard: the epoch in which it takes appends, or a marker.
    epochs: Vec<AtomicU64>,
    closed_rooms: Mutex<ClosedRooms>,
    opened_at: Instant,
    shards: ShardCount,
}

impl AppendConnection {
    /// Connects, and keeps connected until `stop`. `highest_seen` has what was acknowledged, by shard.
    pub(super) async fn open(
        args: &NatsArgs,
        shards: ShardCount,
        highest_seen: &Arc<[HighestSeen]>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Arc<Self>> {
        let appends = Arc::new(Self::default());
        let connection = nats::connect_once(args, BrokerUser::Api).await?;
        let maintenance =
            keep_connected(appends.clone(), connection, args.clone(), shards, highest_seen.clone());
        let stop = stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(maintenance).await });
        Ok(appends)
    }

    /// Returns the connection on which to append to a shard, and the shard's epoch; `None` if it takes no appends
    /// now.
    pub(super) fn for_appends_to(&self, shard: Shard) -> Option<(Arc<LiveConnection>, u64)> {
        let live = self.current.load();
        let live = live.as_ref()?;
        let epoch = live.epochs.get(shard.index())?.load(Ordering::Acquire);
        (epoch != EPOCH_NOT_VERIFIED).then(|| (live.clone(), epoch))
    }

    /// Checks that every shard takes appends; says why not.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let live = self.current.load();
        let live = live.as_ref().ok_or("no connection to the broker")?;
        let is_open = |epoch: &AtomicU64| epoch.load(Ordering::Acquire) != EPOCH_NOT_VERIFIED;
        if live.epochs.iter().all(is_open) {
            Ok(())
        } else {
            Err("the persister has not looked at the log since its broker was started")
        }
    }
}

async fn keep_connected(
    append_connection: Arc<AppendConnection>,
    mut connection: BrokerConnection,
    args: NatsArgs,
    shards: ShardCount,
    highest_seen: Arc<[HighestSeen]>,
) {
    loop {
        let mut events = connection.events();
        let live = match LiveConnection::new(&connection, shards).await {
            Ok(live) => Arc::new(live),
            Err(error) => {
                tracing::debug!(
                    error = format!("{error:#}"),
                    "could not subscribe on a new connection for appends; connecting again"
                );
                tokio::time::sleep(RETRY_INTERVAL).await;
                connection = reconnect(&args).await;
                continue;
            }
        };
        append_connection.current.store(Some(live.clone()));
        let lost = async {
            // An event from before the subscription to events shows only in the connection's state.
            while connection.client.connection_state() == State::Connected
                && let Ok(NatsEvent::Connected | NatsEvent::SlowConsumer) = events.recv().await
            {}
        };
        let admitted = async {
            live.verify_all_shards(shards, &highest_seen).await;
            std::future::pending::<()>().await;
        };
        // A node that appends nothing must still read the closings.
        let looking = async {
            loop {
                tokio::time::sleep(CLOSINGS_CHECK_INTERVAL).await;
                live.closed_rooms().note_received();
            }
        };
        tokio::select! {
            () = lost => {}
            () = admitted => {}
            () = looking => {}
        }
        append_connection.current.store(None);
        connection = reconnect(&args).await;
    }
}

/// Connects; retries until it succeeds.
async fn reconnect(args: &NatsArgs) -> BrokerConnection {
    loop {
        match nats::connect_once(args, BrokerUser::Api).await {
            Ok(connection) => return connection,
            Err(error) => tracing::debug!(%error, "could not connect for appends; trying again"),
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

impl LiveConnection {
    async fn new(connection: &BrokerConnection, shards: ShardCount) -> anyhow::Result<Self> {
        let context = ContextBuilder::new()
            .timeout(ATTEMPT_TIMEOUT)
            .ack_timeout(ATTEMPT_TIMEOUT)
            .max_ack_inflight(IN_FLIGHT_MAX)
            .backpressure_on_inflight(true)
            .build(connection.client.clone());
        let broker = nats::single_broker(&connection.client);
        let epoch = if broker.is_some() { EPOCH_NOT_VERIFIED } else { EPOCH_NEEDS_NO_CHECK };
        let epochs = shards.all().map(|_| AtomicU64::new(epoch)).collect();
        Ok(Self {
            closed_rooms: Mutex::new(ClosedRooms::listen(&connection.client).await?),
            context,
            single_broker: broker,
            epochs,
            opened_at: Instant::now(),
            shards,
        })
    }

    fn closed_rooms(&self) -> MutexGuard<'_, ClosedRooms> {
        self.closed_rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a room was closed before an event of its shard that was acknowledged on this connection. On a
    /// connection that was opened less than [`NEW_CONNECTION_PERIOD`] ago, and may have missed the closing, asks the
    /// stream's leader.
    pub(super) async fn is_closed_before(&self, room: RoomId, position: LogPosition) -> anyhow::Result<bool> {
        let is_heard = self.closed_rooms().is_closed_before(room, position.seq);
        if is_heard || self.opened_at.elapsed() > NEW_CONNECTION_PERIOD {
            return Ok(is_heard);
        }
        let subject = Channel::Room(room).log_subject(self.shards, EventName::RoomUpdate, None);
        let last = log::last(&self.context, &subject).await?;
        Ok(last.is_some_and(|last| last.seq < position.seq && is_closing(&last.payload)))
    }

    /// Opens the shards for appends, each once its log is known to be complete.
    async fn verify_all_shards(&self, shards: ShardCount, highest_seen: &[HighestSeen]) {
        let is_closed =
            |shard: &Shard| self.epochs[shard.index()].load(Ordering::Relaxed) == EPOCH_NOT_VERIFIED;
        loop {
            let looks = shards
                .all()
                .filter(is_closed)
                .map(|shard| self.verify_shard(shard, &highest_seen[shard.index()]));
            for error in join_all(looks).await.into_iter().filter_map(Result::err) {
                tracing::debug!(
                    error = format!("{error:#}"),
                    "could not verify a shard's log; it takes no appends yet"
                );
            }
            if !shards.all().any(|shard| is_closed(&shard)) {
                return;
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// Opens a shard if the persister has checked its log and the log has everything that was acknowledged to this
    /// node. Otherwise publishes the highest position acknowledged: the persister finds it in the log, or begins a
    /// new epoch.
    async fn verify_shard(&self, shard: Shard, highest_seen: &HighestSeen) -> anyhow::Result<()> {
        let (state, description) = log::describe(&self.context, shard).await?;
        if description.broker == self.single_broker && state.last >= highest_seen.in_epoch(state.epoch) {
            self.epochs[shard.index()].store(state.epoch, Ordering::Release);
            return Ok(());
        }
        let furthest = serde_json::to_vec(&highest_seen.highest())?;
        self.context.client().publish(subject::log_end(shard), furthest.into()).await?;
        Ok(())
    }
}
