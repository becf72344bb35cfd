//! The connections that appends go over.
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
    closings::{ClosedRooms, is_closing},
};
use log::HighestSeen;
use protocol::{
    event::EventName,
    id::{RoomId, Shard, ShardCount},
    subject::{self, Channel},
};
use service::nats::{self, BrokerConnection, BrokerUser, NatsArgs, NatsEvent};

/// How long one try waits for its acknowledgement.
pub(super) const TRY: Duration = Duration::from_secs(2);
/// Appends that one connection may have on their way.
const IN_FLIGHT: usize = 1_000;
/// Between tries to connect, and between looks at a log that takes no appends yet.
const AGAIN: Duration = Duration::from_millis(200);
/// Between looks at the closings that were heard.
const LOOK: Duration = Duration::from_secs(1);
/// A request of the last connection may still be under way on one that was opened so short a time ago.
const NEW: Duration = Duration::from_secs(10);
/// The epoch of a shard that takes no appends yet.
const CLOSED: u64 = u64::MAX;
/// That of a shard in a cluster: what is acknowledged there is not lost, and nobody has to remember it.
const ANY: u64 = 0;

/// One connection, replaced whenever it is lost.
#[derive(Debug, Default)]
pub(super) struct AppendConnection {
    /// None while it is down.
    live: ArcSwapOption<LiveConnection>,
}

#[derive(Debug)]
pub(super) struct LiveConnection {
    pub(super) context: Context,
    /// The broker's process, where there is but one.
    broker: Option<String>,
    /// By shard: the epoch in which it takes appends.
    epochs: Vec<AtomicU64>,
    closings: Mutex<ClosedRooms>,
    opened_at: Instant,
    shards: ShardCount,
}

impl AppendConnection {
    /// Connects, and keeps connected until `stop`. `seen` is what was acknowledged, by shard.
    pub(super) async fn open(
        args: &NatsArgs,
        shards: ShardCount,
        seen: &Arc<[HighestSeen]>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Arc<Self>> {
        let link = Arc::new(Self::default());
        let connection = nats::connect_once(args, BrokerUser::Api).await?;
        let kept = keep(link.clone(), connection, args.clone(), shards, seen.clone());
        let stop = stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(kept).await });
        Ok(link)
    }

    /// To append to a shard, and its epoch; `None` where that can't be now.
    pub(super) fn take(&self, shard: Shard) -> Option<(Arc<LiveConnection>, u64)> {
        let live = self.live.load();
        let live = live.as_ref()?;
        let epoch = live.epochs.get(shard.index())?.load(Ordering::Acquire);
        (epoch != CLOSED).then(|| (live.clone(), epoch))
    }

    /// Whether every shard takes appends; why not.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let live = self.live.load();
        let live = live.as_ref().ok_or("no connection to the broker")?;
        let is_open = |epoch: &AtomicU64| epoch.load(Ordering::Acquire) != CLOSED;
        if live.epochs.iter().all(is_open) {
            Ok(())
        } else {
            Err("the persister has not looked at the log since its broker was started")
        }
    }
}

async fn keep(
    link: Arc<AppendConnection>,
    mut connection: BrokerConnection,
    args: NatsArgs,
    shards: ShardCount,
    seen: Arc<[HighestSeen]>,
) {
    loop {
        let mut events = connection.events();
        let live = match LiveConnection::new(&connection, shards).await {
            Ok(live) => Arc::new(live),
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "the connection to append on was lost at once");
                tokio::time::sleep(AGAIN).await;
                connection = again(&args).await;
                continue;
            }
        };
        link.live.store(Some(live.clone()));
        let lost = async {
            // What happened before anyone listened shows in the state alone.
            while connection.client.connection_state() == State::Connected
                && let Ok(NatsEvent::Connected | NatsEvent::SlowConsumer) = events.recv().await
            {}
        };
        let admitted = async {
            live.admit(shards, &seen).await;
            std::future::pending::<()>().await;
        };
        // Where nothing is appended, nothing else looks at the closings.
        let looking = async {
            loop {
                tokio::time::sleep(LOOK).await;
                live.closings().look();
            }
        };
        tokio::select! {
            () = lost => {}
            () = admitted => {}
            () = looking => {}
        }
        link.live.store(None);
        connection = again(&args).await;
    }
}

/// Connects, as often as it takes.
async fn again(args: &NatsArgs) -> BrokerConnection {
    loop {
        match nats::connect_once(args, BrokerUser::Api).await {
            Ok(connection) => return connection,
            Err(error) => tracing::debug!(%error, "no connection to append on"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

impl LiveConnection {
    async fn new(connection: &BrokerConnection, shards: ShardCount) -> anyhow::Result<Self> {
        let context = ContextBuilder::new()
            .timeout(TRY)
            .ack_timeout(TRY)
            .max_ack_inflight(IN_FLIGHT)
            .backpressure_on_inflight(true)
            .build(connection.client.clone());
        let broker = nats::single_broker(&connection.client);
        let epoch = if broker.is_some() { CLOSED } else { ANY };
        let epochs = shards.all().map(|_| AtomicU64::new(epoch)).collect();
        Ok(Self {
            closings: Mutex::new(ClosedRooms::listen(&connection.client).await?),
            context,
            broker,
            epochs,
            opened_at: Instant::now(),
            shards,
        })
    }

    fn closings(&self) -> MutexGuard<'_, ClosedRooms> {
        self.closings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a room was closed before an event of its shard that was acknowledged on this connection. A closing that
    /// the connection may have missed, since it was opened only then, is asked for at the leader.
    pub(super) async fn is_closed_before(&self, room: RoomId, position: LogPosition) -> anyhow::Result<bool> {
        let is_heard = self.closings().is_closed_before(room, position.seq);
        if is_heard || self.opened_at.elapsed() > NEW {
            return Ok(is_heard);
        }
        let subject = Channel::Room(room).log_subject(self.shards, EventName::RoomUpdate, None);
        let last = log::last(&self.context, &subject).await?;
        Ok(last.is_some_and(|last| last.seq < position.seq && is_closing(&last.payload)))
    }

    /// Lets appends through, shard by shard, as each log is known to be whole.
    async fn admit(&self, shards: ShardCount, seen: &[HighestSeen]) {
        let is_closed = |shard: &Shard| self.epochs[shard.index()].load(Ordering::Relaxed) == CLOSED;
        loop {
            let looks = shards.all().filter(is_closed).map(|shard| self.look(shard, &seen[shard.index()]));
            for error in join_all(looks).await.into_iter().filter_map(Result::err) {
                tracing::debug!(error = format!("{error:#}"), "not appended to yet");
            }
            if !shards.all().any(|shard| is_closed(&shard)) {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Opens a shard whose log has all that was acknowledged here, and has been looked at. Else the
    /// persister is told what was: it is there, or comes, and begins a new epoch.
    async fn look(&self, shard: Shard, seen: &HighestSeen) -> anyhow::Result<()> {
        let (state, description) = log::describe(&self.context, shard).await?;
        if description.broker == self.broker && state.last >= seen.in_epoch(state.epoch) {
            self.epochs[shard.index()].store(state.epoch, Ordering::Release);
            return Ok(());
        }
        let furthest = serde_json::to_vec(&seen.highest())?;
        self.context.client().publish(subject::log_end(shard), furthest.into()).await?;
        Ok(())
    }
}
