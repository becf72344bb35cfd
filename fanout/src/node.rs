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
        push_waiter::{PushOutcome, PushWaiter},
        subscribe::SubscribeRequest,
    },
};

/// How long the push of an acknowledged event to its sender may take, before the shard is asked to catch up.
const PUSH_LATE_AFTER: Duration = Duration::from_secs(1);
/// How long to wait for the push after that.
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
    /// Connection on which events that are never stored are published.
    pub(crate) unstored_client: Client,
    /// Random at process start, so that no other process has it. It is the node's first incarnation.
    pub(crate) process_id: u64,
    /// Maximum bytes that wait for one socket.
    pub(crate) outbox_bytes: usize,
    /// How long a match socket stays open: its token is checked only at connect.
    pub(crate) match_socket_max_age: Duration,
    pub(crate) shards: ShardCount,
    /// The shards whose events for a person already reach the person's sockets.
    pub(crate) people_ready: PeopleReady,
    /// The command queue of each shard's task, by the shard's index.
    pub(crate) shard_tasks: Vec<mpsc::Sender<ShardCommand>>,
    pub(crate) socket_counter: AtomicU64,
}

impl Node {
    /// Returns a new socket number, unique in this process.
    pub(crate) fn next_socket_id(&self) -> u64 {
        self.socket_counter.fetch_add(1, Ordering::Relaxed)
    }

    fn shard_task(&self, channel: &Channel) -> Option<&mpsc::Sender<ShardCommand>> {
        self.shard_tasks.get(channel.shard(self.shards).index())
    }

    /// Sends a socket's request to follow a channel to the task of the channel's shard, which answers on
    /// `request.admitted`, or drops it if the channel can't be followed now.
    pub(crate) async fn subscribe(&self, channel: Channel, request: SubscribeRequest) {
        if let Some(task) = self.shard_task(&channel) {
            // If the task has stopped, the request is dropped here.
            let _ = task.send(ShardCommand::Subscribe { channel, request }).await;
        }
    }

    /// Waits until an event that the socket's own action appended was pushed to it. Gives up after about 11 s.
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

    /// Replaces the caller of a socket that follows a channel, or watches access to it.
    pub(crate) async fn change_caller(&self, channel: Channel, socket_id: u64, caller: Caller) {
        if let Some(task) = self.shard_task(&channel) {
            // A task that has stopped has no subscribers.
            let _ = task.send(ShardCommand::ChangeCaller { channel, socket_id, caller }).await;
        }
    }

    /// Ends a socket's subscription to a channel or, if `is_watcher`, its watch on access to it, unless a frame later
    /// than `frame_number` asked for it. After this resolves, nothing more of the channel is pushed to that subscriber.
    pub(crate) async fn unsubscribe(
        &self,
        channel: Channel,
        socket_id: u64,
        frame_number: u64,
        is_watcher: bool,
    ) {
        if let Some(task) = self.shard_task(&channel) {
            let (done, ended) = oneshot::channel();
            // A task that has stopped has no subscribers.
            let _ = task
                .send(ShardCommand::Unsubscribe { channel, socket_id, frame_number, is_watcher, done })
                .await;
            let _ = ended.await;
        }
    }
}
