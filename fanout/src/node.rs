//! What all sockets of a node share.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_nats::Client;
use shared::{
    config::OriginArgs,
    id::ShardCount,
    rate::{AddressArgs, Limit},
    subject::Channel,
    token::Verifier,
};
use tokio::sync::mpsc;

use crate::{
    ask::Ask,
    feed::Command,
    hub::{follower::Follower, presence::Presence, sessions::Sessions},
};

/// One fan-out node.
pub(crate) struct Node {
    pub(crate) ask: Ask,
    pub(crate) presence: Presence,
    pub(crate) sessions: Sessions,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) origins: OriginArgs,
    /// How often an address may open a socket.
    pub(crate) upgrades: Limit<IpAddr>,
    pub(crate) address: AddressArgs,
    /// For what is never stored.
    pub(crate) client: Client,
    /// Random at process start: tells this process from any before it.
    pub(crate) process: u64,
    /// The most bytes that wait for one socket.
    pub(crate) outbox_bytes: usize,
    pub(crate) shards: ShardCount,
    /// One task each, the system stream first.
    pub(crate) feeds: Vec<mpsc::Sender<Command>>,
    pub(crate) connections: AtomicU64,
}

impl Node {
    /// A number that no other socket of this process has.
    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    fn feed(&self, channel: &Channel) -> Option<&mpsc::Sender<Command>> {
        self.feeds.get(channel.shard(self.shards).index())
    }

    /// Hands a follower to its channel's task, which drops it where it can't be let in.
    pub(crate) async fn follow(&self, channel: Channel, follower: Follower) {
        if let Some(feed) = self.feed(&channel) {
            // A task that has stopped lets nobody in.
            let _ = feed.send(Command::Follow { channel, follower }).await;
        }
    }

    /// A socket follows a channel no more; as a guard, or as one that is pushed to.
    pub(crate) async fn unfollow(&self, channel: Channel, connection: u64, guard: bool) {
        if let Some(feed) = self.feed(&channel) {
            // A task that has stopped has no followers.
            let _ = feed.send(Command::Unfollow { channel, connection, guard }).await;
        }
    }
}
