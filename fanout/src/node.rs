//! Holds what all sockets of a node share.

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
    api_client::ApiClient,
    limits::SocketLimits,
    outbox::registry::SocketRegistry,
    presence::PresencePublisher,
    shard::{
        PeopleReady, ShardCommand,
        channel::{PushOutcome, PushWaiter},
        subscribe::SubscribeRequest,
    },
};

/// An event that was acknowledged that long ago should have come.
const PUSH_LATE_AFTER: Duration = Duration::from_secs(1);
/// How long its catch-up may take.
const LATE_PUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// One fan-out node.
pub(crate) struct Node {
    pub(crate) api: ApiClient,
    pub(crate) presence: PresencePublisher,
    pub(crate) sockets: SocketRegistry,
    pub(crate) verifier: Arc<TokenVerifier>,
    pub(crate) origins: OriginArgs,
    pub(crate) limits: SocketLimits,
    pub(crate) address: AddressArgs,
    /// For what is never stored.
    pub(crate) unstored_client: Client,
    /// Random at process start: tells this process from any before it.
    pub(crate) process_id: u64,
    /// The most bytes that wait for one socket.
    pub(crate) outbox_bytes: usize,
    /// How long a socket whose token counts at connect alone stays open.
    pub(crate) match_socket_max_age: Duration,
    pub(crate) shards: ShardCount,
    /// Whose events reach their sockets already.
    pub(crate) people_ready: PeopleReady,
    /// One task each, the system stream first.
    pub(crate) shard_tasks: Vec<mpsc::Sender<ShardCommand>>,
    pub(crate) socket_counter: AtomicU64,
}

impl Node {
    /// A number that no other socket of this process has.
    pub(crate) fn next_socket_id(&self) -> u64 {
        self.socket_counter.fetch_add(1, Ordering::Relaxed)
    }

    fn shard_task(&self, channel: &Channel) -> Option<&mpsc::Sender<ShardCommand>> {
        self.shard_tasks.get(channel.shard(self.shards).index())
    }

    /// Hands a subscriber to its channel's task, which drops it where it can't be let in.
    pub(crate) async fn subscribe(&self, channel: Channel, request: SubscribeRequest) {
        if let Some(task) = self.shard_task(&channel) {
            // A task that has stopped lets nobody in.
            let _ = task.send(ShardCommand::Subscribe { channel, request }).await;
        }
    }

    /// Waits until an event of the socket's own was pushed to it.
    pub(crate) async fn wait_until_pushed(&self, channel: &Channel, socket_id: u64, seq: u64) -> PushOutcome {
        self.push_outcome(channel, socket_id, seq).await.unwrap_or(PushOutcome::Unknown)
    }

    async fn push_outcome(&self, channel: &Channel, socket_id: u64, seq: u64) -> Option<PushOutcome> {
        let task = self.shard_task(channel)?;
        let (done, mut outcome) = oneshot::channel();
        let waiter = PushWaiter { socket_id, seq, done };
        task.send(ShardCommand::NotifyWhenPushed { channel: channel.clone(), waiter }).await.ok()?;
        match timeout(PUSH_LATE_AFTER, &mut outcome).await {
            Ok(outcome) => outcome.ok(),
            Err(_) => {
                task.send(ShardCommand::PushIsLate { channel: channel.clone(), seq }).await.ok()?;
                timeout(LATE_PUSH_TIMEOUT, outcome).await.ok()?.ok()
            }
        }
    }

    /// A socket that follows a channel, or watches it, goes on as another caller.
    pub(crate) async fn change_caller(&self, channel: Channel, connection: u64, caller: Caller) {
        if let Some(task) = self.shard_task(&channel) {
            // A task that has stopped has no subscribers.
            let _ = task.send(ShardCommand::ChangeCaller { channel, socket_id: connection, caller }).await;
        }
    }

    /// A socket follows a channel no more, as far as its frames up to that one had asked; as a watcher, or as
    /// one that is pushed to. Nothing of the channel comes after this.
    pub(crate) async fn unsubscribe(&self, channel: Channel, connection: u64, frame: u64, guard: bool) {
        if let Some(task) = self.shard_task(&channel) {
            let (done, gone) = oneshot::channel();
            // A task that has stopped has no subscribers.
            let _ = task
                .send(ShardCommand::Unsubscribe {
                    channel,
                    socket_id: connection,
                    frame_number: frame,
                    is_watcher: guard,
                    done,
                })
                .await;
            let _ = gone.await;
        }
    }
}
