//! What all sockets of a node share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::Client;
use protocol::{caller::Caller, id::ShardCount, subject::Channel};
use service::{origin::OriginArgs, rate::AddressArgs, token::TokenVerifier};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    ask::Ask,
    feed::{Command, PeopleHeard},
    hub::{channel::Sender, follower::Follower, presence::Presence, sessions::Sessions},
    limits::Limits,
};

/// An event that was acknowledged that long ago should have come.
const LATE: Duration = Duration::from_secs(1);
/// How long its healing may take.
const HEALED: Duration = Duration::from_secs(10);

/// One fan-out node.
pub(crate) struct Node {
    pub(crate) ask: Ask,
    pub(crate) presence: Presence,
    pub(crate) sessions: Sessions,
    pub(crate) verifier: Arc<TokenVerifier>,
    pub(crate) origins: OriginArgs,
    pub(crate) limits: Limits,
    pub(crate) address: AddressArgs,
    /// For what is never stored.
    pub(crate) client: Client,
    /// Random at process start: tells this process from any before it.
    pub(crate) process: u64,
    /// The most bytes that wait for one socket.
    pub(crate) outbox_bytes: usize,
    /// How long a socket whose token counts at connect alone stays open.
    pub(crate) max_age: Duration,
    pub(crate) shards: ShardCount,
    /// Whose events reach their sockets already.
    pub(crate) people: PeopleHeard,
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

    /// Resolves once an event of the socket's own was pushed to it; false where it does not follow any more.
    /// `None`: it is not known, since the channel is being opened anew.
    pub(crate) async fn pushed(&self, channel: &Channel, connection: u64, seq: u64) -> Option<bool> {
        let feed = self.feed(channel)?;
        let (done, mut pushed) = oneshot::channel();
        let sender = Sender { connection, seq, done };
        feed.send(Command::Answer { channel: channel.clone(), sender }).await.ok()?;
        match timeout(LATE, &mut pushed).await {
            Ok(pushed) => pushed.ok(),
            Err(_) => {
                feed.send(Command::Late { channel: channel.clone(), seq }).await.ok()?;
                timeout(HEALED, pushed).await.ok()?.ok()
            }
        }
    }

    /// A socket that follows a channel, or guards it, goes on as another caller.
    pub(crate) async fn change_caller(&self, channel: Channel, connection: u64, caller: Caller) {
        if let Some(feed) = self.feed(&channel) {
            // A task that has stopped has no followers.
            let _ = feed.send(Command::ChangeCaller { channel, connection, caller }).await;
        }
    }

    /// A socket follows a channel no more, as far as its frames up to that one had asked; as a guard, or as
    /// one that is pushed to. Nothing of the channel comes after this.
    pub(crate) async fn unfollow(&self, channel: Channel, connection: u64, frame: u64, guard: bool) {
        if let Some(feed) = self.feed(&channel) {
            let (done, gone) = oneshot::channel();
            // A task that has stopped has no followers.
            let _ = feed.send(Command::Unfollow { channel, connection, frame, guard, done }).await;
            let _ = gone.await;
        }
    }
}
