//! Keeps the broker connections that appends go over.
//!
//! What must hold: what a lost connection had queued dies with it, else a message could be stored minutes
//! after its sender was told that it was not. And a single broker that was started anew is appended to
//! only once the persister has looked at its log: that may have lost its end, and would give ids a second
//! time. The persister writes into the stream's description which process of the broker it has looked at.

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

/// How long one try waits for its acknowledgement.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// Appends that one connection may have on their way.
const IN_FLIGHT_MAX: usize = 1_000;
/// Between tries to connect, and between looks at a log that takes no appends yet.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// Between looks at the closings that were heard.
const CLOSINGS_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A request of the last connection may still be under way on one that was opened so short a time ago.
const NEW_CONNECTION_PERIOD: Duration = Duration::from_secs(10);
/// The epoch of a shard that takes no appends yet.
const EPOCH_NOT_VERIFIED: u64 = u64::MAX;
/// That of a shard in a cluster: what is acknowledged there is not lost, and nobody has to remember it.
const EPOCH_NEEDS_NO_CHECK: u64 = 0;

/// One connection, replaced whenever it is lost.
#[derive(Debug, Default)]
pub(super) struct AppendConnection {
    /// None while it is down.
    current: ArcSwapOption<LiveConnection>,
}

#[derive(Debug)]
pub(super) struct LiveConnection {
    pub(super) context: Context,
    /// The broker's process, where there is but one.
    single_broker: Option<String>,
    /// By shard: the epoch in which it takes appends.
    epochs: Vec<AtomicU64>,
    closed_rooms: Mutex<ClosedRooms>,
    opened_at: Instant,
    shards: ShardCount,
}

impl AppendConnection {
    /// Connects, and keeps connected until `stop`. `seen` is what was acknowledged, by shard.
    pub(super) async fn open(
        args: &NatsArgs,
        shards: ShardCount,
        highest_seen: &Arc<[HighestSeen]>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Arc<Self>> {
        let link = Arc::new(Self::default());
        let connection = nats::connect_once(args, BrokerUser::Api).await?;
        let kept = keep_connected(link.clone(), connection, args.clone(), shards, highest_seen.clone());
        let stop = stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(kept).await });
        Ok(link)
    }

    /// To append to a shard, and its epoch; `None` where that can't be now.
    pub(super) fn for_appends_to(&self, shard: Shard) -> Option<(Arc<LiveConnection>, u64)> {
        let live = self.current.load();
        let live = live.as_ref()?;
        let epoch = live.epochs.get(shard.index())?.load(Ordering::Acquire);
        (epoch != EPOCH_NOT_VERIFIED).then(|| (live.clone(), epoch))
    }

    /// Whether every shard takes appends; why not.
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
                tracing::debug!(error = format!("{error:#}"), "the connection to append on was lost at once");
                tokio::time::sleep(RETRY_INTERVAL).await;
                connection = reconnect(&args).await;
                continue;
            }
        };
        append_connection.current.store(Some(live.clone()));
        let lost = async {
            // What happened before anyone listened shows in the state alone.
            while connection.client.connection_state() == State::Connected
                && let Ok(NatsEvent::Connected | NatsEvent::SlowConsumer) = events.recv().await
            {}
        };
        let admitted = async {
            live.verify_all_shards(shards, &highest_seen).await;
            std::future::pending::<()>().await;
        };
        // Where nothing is appended, nothing else looks at the closings.
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

/// Connects, as often as it takes.
async fn reconnect(args: &NatsArgs) -> BrokerConnection {
    loop {
        match nats::connect_once(args, BrokerUser::Api).await {
            Ok(connection) => return connection,
            Err(error) => tracing::debug!(%error, "no connection to append on"),
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

    /// Whether a room was closed before an event of its shard that was acknowledged on this connection. A closing that
    /// the connection may have missed, since it was opened only then, is asked for at the leader.
    pub(super) async fn is_closed_before(&self, room: RoomId, position: LogPosition) -> anyhow::Result<bool> {
        let is_heard = self.closed_rooms().is_closed_before(room, position.seq);
        if is_heard || self.opened_at.elapsed() > NEW_CONNECTION_PERIOD {
            return Ok(is_heard);
        }
        let subject = Channel::Room(room).log_subject(self.shards, EventName::RoomUpdate, None);
        let last = log::last(&self.context, &subject).await?;
        Ok(last.is_some_and(|last| last.seq < position.seq && is_closing(&last.payload)))
    }

    /// Lets appends through, shard by shard, as each log is known to be whole.
    async fn verify_all_shards(&self, shards: ShardCount, highest_seen: &[HighestSeen]) {
        let is_closed =
            |shard: &Shard| self.epochs[shard.index()].load(Ordering::Relaxed) == EPOCH_NOT_VERIFIED;
        loop {
            let looks = shards
                .all()
                .filter(is_closed)
                .map(|shard| self.verify_shard(shard, &highest_seen[shard.index()]));
            for error in join_all(looks).await.into_iter().filter_map(Result::err) {
                tracing::debug!(error = format!("{error:#}"), "not appended to yet");
            }
            if !shards.all().any(|shard| is_closed(&shard)) {
                return;
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// Opens a shard whose log has all that was acknowledged here, and has been looked at. Else the
    /// persister is told what was: it is there, or comes, and begins a new epoch.
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
