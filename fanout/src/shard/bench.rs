//! Measures the path of a live message, for `tests/bench`: from the broker's subscription to its sockets. Makes shard
//! tasks without a broker, for tests.

use std::{io::Read as _, net::TcpStream, sync::Arc, time::Duration};

use async_nats::{Message, Statistics, jetstream};
use bytes::Bytes;
use log::{AppliedWatch, SyncHint};
use protocol::{
    id::{RoomId, ShardCount},
    rpc::Surface,
    subject::Channel,
};
use service::{
    nats::{Losses, NatsEvent},
    rate::ConcurrencyLimit,
};
use tokio::sync::{broadcast, oneshot, watch};

#[cfg(test)]
use super::channel::ChannelState;
use super::{
    PeopleReady, ShardContext, ShardPositions,
    inbox::LiveMessage,
    loss_signals::LossSignals,
    ring_budget::RingBudget,
    subscribe::SubscribeRequest,
    task::{ShardTask, TaskStep},
};
use crate::{
    api_client::ApiClient, bench, encode::PushFormat, outbox::Outbox, outbox::registry::SocketRegistry,
};

/// A room that is received, with its sockets.
pub struct BenchRoom {
    task: ShardTask,
    clients: Vec<TcpStream>,
    _loss_sources: LossSources,
}

/// The senders of signals that live events may have been lost.
pub(super) struct LossSources {
    pub(super) statistics: Arc<Statistics>,
    pub(super) events: broadcast::Sender<NatsEvent>,
    pub(super) losses: watch::Sender<u64>,
    pub(super) hints: broadcast::Sender<SyncHint>,
}

impl LossSources {
    /// No signal was sent yet.
    pub(super) fn new() -> Self {
        let (events, losses) = (broadcast::channel(64).0, watch::Sender::new(0));
        Self { statistics: Arc::default(), events, losses, hints: broadcast::channel(64).0 }
    }

    /// All signals from now on.
    pub(super) fn signals(&self) -> LossSignals {
        let (events, losses) = (self.events.subscribe(), self.losses.subscribe());
        LossSignals::new(self.statistics.clone(), events, losses, self.hints.subscribe())
    }
}

/// A shard's task without a broker, and the senders of its signals.
#[cfg(test)]
pub(super) async fn shard_task() -> (ShardTask, LossSources) {
    let (shards, loss_sources) = (ShardCount::new(1).expect("1"), LossSources::new());
    let shard = Channel::Room(RoomId(1)).shard(shards);
    let mut task = ShardTask::new(shard, context(shards).await, loss_sources.signals());
    task.new_work.clear();
    (task, loss_sources)
}

/// Opens a room of a shard, whose state is complete from an event on.
#[cfg(test)]
pub(super) fn open_room(task: &mut ShardTask, room: RoomId, last: u64) -> &mut ChannelState {
    let channel = Channel::Room(room);
    task.channels.open(&channel, last, 1, oneshot::channel().0);
    task.channels.get_mut(&channel).expect("it is open")
}

/// Opens a room from event 5 on, with one watcher by a right that not everyone has.
#[cfg(test)]
pub(super) fn follow_private_room(task: &mut ShardTask, room: u64) {
    let grant =
        protocol::rpc::AccessGrant { public: false, pair: false, as_of: 5, team: None, last_event: 0 };
    let request = SubscribeRequest {
        socket_id: room,
        frame_number: 1,
        caller: bench::caller(room),
        outbox: Arc::new(Outbox::new(1_000, PushFormat::Native)),
        since: None,
        epoch: None,
        grant: Some(grant),
        answer: None,
        admitted: oneshot::channel().0,
    };
    open_room(task, RoomId(room), 5).admit(request, true);
}

/// The state of a stream with these events.
#[cfg(test)]
pub(super) const fn stream_state(first: u64, last: u64, epoch: u64) -> log::StreamState {
    log::StreamState { first, last, epoch, messages: 0, bytes: 0, max_bytes: 0, replicas: 1 }
}

/// A request to resume after an event of epoch 1. Its answer is whether it is recovered.
#[cfg(test)]
pub(super) fn resume_request(since: u64, outbox: &Arc<Outbox>) -> SubscribeRequest {
    SubscribeRequest {
        socket_id: since,
        frame_number: 1,
        caller: bench::caller(since),
        outbox: outbox.clone(),
        since: Some(since),
        epoch: Some(1),
        grant: None,
        answer: Some(Box::new(|start| Bytes::from(start.is_recovered.to_string()))),
        admitted: oneshot::channel().0,
    }
}

impl BenchRoom {
    /// A room with one socket of each surface that is named.
    pub async fn open(room: RoomId, shards: ShardCount, surfaces: &[Surface]) -> Self {
        let channel = Channel::Room(room);
        let loss_sources = LossSources::new();
        let mut task = ShardTask::new(channel.shard(shards), context(shards).await, loss_sources.signals());
        task.channels.open(&channel, 0, 0, oneshot::channel().0);
        let mut clients = Vec::new();
        for (socket_id, surface) in (0..).zip(surfaces) {
            let (socket, client) = bench::socket_pair().await;
            let outbox = Arc::new(Outbox::new(bench::OUTBOX_BYTES, PushFormat::of(*surface, false)));
            outbox.attach_socket(socket);
            if let Some(channel_state) = task.channels.get_mut(&channel) {
                channel_state.admit(subscribe_request(socket_id, outbox), true);
            }
            clients.push(client);
        }
        Self { task, clients, _loss_sources: loss_sources }
    }

    /// Handles a message as the shard's task does.
    pub fn receive(&mut self, message: Message) {
        self.task.inbox.push(LiveMessage::Channel(message));
        self.task.step(TaskStep::Receive).expect("no loss signal");
    }

    /// Reads the bytes that each socket got since the last read.
    pub fn received(&mut self) -> Vec<Vec<u8>> {
        let read = |client: &mut TcpStream| {
            let mut bytes = Vec::new();
            // The socket is non-blocking: reading ends with an error once all bytes that have arrived are read.
            let _ = client.read_to_end(&mut bytes);
            bytes
        };
        self.clients.iter_mut().map(read).collect()
    }
}

/// The context of a shard's task without a broker.
pub(super) async fn context(shards: ShardCount) -> ShardContext {
    let client = bench::client().await;
    ShardContext {
        jetstream: jetstream::new(client.clone()),
        shards,
        applied: AppliedWatch::start(&client, shards).await.expect("a client"),
        api: ApiClient::new(client.clone(), None),
        sockets: SocketRegistry::new(usize::MAX, ConcurrencyLimit::OFF),
        positions: Arc::new(ShardPositions::new(shards)),
        people_ready: PeopleReady::new(shards),
        losses: Losses::default(),
        ring_budget: Arc::new(RingBudget::new(shards, usize::MAX, Duration::from_secs(600))),
        unstored_client: client.clone(),
        client,
    }
}

fn subscribe_request(socket_id: u64, outbox: Arc<Outbox>) -> SubscribeRequest {
    SubscribeRequest {
        socket_id,
        frame_number: 1,
        caller: bench::caller(socket_id),
        outbox,
        since: None,
        epoch: None,
        grant: None,
        answer: Some(Box::new(|_| Bytes::from_static(b"answer"))),
        admitted: oneshot::channel().0,
    }
}
