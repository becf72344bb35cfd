//! The way of a live message, for `tests/bench`: from the broker's subscription to its sockets.

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

use super::{Entry, Feed, Live, PeopleHeard, Positions, Signals, Source, step::Step};
use crate::{
    ask::Ask,
    bench,
    hub::{
        channel::{Deliveries, Hub},
        follower::Follower,
        rings::Rings,
        sessions::Sessions,
    },
    render::Form,
    session::outbox::Outbox,
};

/// A room that is heard, with its sockets.
pub struct Room {
    feed: Feed,
    clients: Vec<TcpStream>,
    _said: Said,
}

/// Where it is said that something may be lost.
pub(super) struct Said {
    pub(super) statistics: Arc<Statistics>,
    pub(super) events: broadcast::Sender<NatsEvent>,
    pub(super) losses: watch::Sender<u64>,
    pub(super) hints: broadcast::Sender<SyncHint>,
}

impl Said {
    /// Nothing was said yet.
    pub(super) fn new() -> Self {
        let (events, losses) = (broadcast::channel(64).0, watch::Sender::new(0));
        Self { statistics: Arc::default(), events, losses, hints: broadcast::channel(64).0 }
    }

    /// All that is said from now on.
    pub(super) fn signals(&self) -> Signals {
        let (events, losses) = (self.events.subscribe(), self.losses.subscribe());
        Signals::new(self.statistics.clone(), events, losses, self.hints.subscribe())
    }
}

/// A shard whose broker is not there, and where it is told of losses.
#[cfg(test)]
pub(super) async fn feed() -> (Feed, Said) {
    let (shards, said) = (ShardCount::new(1).expect("1"), Said::new());
    let shard = Channel::Room(RoomId(1)).shard(shards);
    let mut feed = Feed::new(shard, source(shards).await, said.signals());
    feed.todo.clear();
    (feed, said)
}

impl Room {
    /// A room with one socket of each surface that is named.
    pub async fn open(room: RoomId, shards: ShardCount, surfaces: &[Surface]) -> Self {
        let source = source(shards).await;
        let channel = Channel::Room(room);
        let shard = channel.shard(shards);
        let metrics = Arc::new(Deliveries::new());
        let mut hub = Hub::new(channel.clone(), shard.index(), 0, 0, oneshot::channel().0, metrics);
        let mut clients = Vec::new();
        for (connection, surface) in (0..).zip(surfaces) {
            let (socket, client) = bench::connected().await;
            let outbox = Arc::new(Outbox::new(bench::OUTBOX, Form::of(*surface, false)));
            outbox.open(socket);
            hub.admit(follower(connection, outbox), true);
            clients.push(client);
        }
        let said = Said::new();
        let mut feed = Feed::new(shard, source, said.signals());
        feed.entries.insert(channel, Entry::Heard(Box::new(hub)));
        Self { feed, clients, _said: said }
    }

    /// Does with a message what the shard's task does.
    pub fn hear(&mut self, message: Message) {
        self.feed.taken.push_back(Live::Channel(message));
        self.feed.step(Step::Hear).expect("a shard that is heard");
    }

    /// What has come to each socket since it was read last.
    pub fn received(&mut self) -> Vec<Vec<u8>> {
        let read = |client: &mut TcpStream| {
            let mut bytes = Vec::new();
            // It ends where nothing more is there now.
            let _ = client.read_to_end(&mut bytes);
            bytes
        };
        self.clients.iter_mut().map(read).collect()
    }
}

/// What feeds share where the broker is not there.
pub(super) async fn source(shards: ShardCount) -> Source {
    let client = bench::client().await;
    Source {
        jetstream: jetstream::new(client.clone()),
        shards,
        applied: AppliedWatch::start(&client, shards).await.expect("a client"),
        ask: Ask::new(client.clone()),
        sessions: Sessions::new(usize::MAX, ConcurrencyLimit::OFF),
        positions: Arc::new(Positions::new(shards)),
        people: PeopleHeard::new(shards),
        losses: Losses::default(),
        rings: Arc::new(Rings::new(shards, usize::MAX, Duration::from_secs(600))),
        unstored: client.clone(),
        client,
    }
}

fn follower(connection: u64, outbox: Arc<Outbox>) -> Follower {
    Follower {
        connection,
        frame: 1,
        caller: bench::caller(connection),
        outbox,
        since: None,
        epoch: None,
        grant: None,
        answer: Some(Box::new(|_| Bytes::from_static(b"answer"))),
        done: oneshot::channel().0,
    }
}
