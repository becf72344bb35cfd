//! Runs one task for each shard: it receives live events and pushes them to the subscribers of their channels.
//!
//! A shard's task ([`ShardTask`]) owns all of its channels, so nothing here is locked. The task only decides: slow work
//! (requests, reads of the log) runs in tasks of its own and reports back. Its parts (`channels`, `inbox`, `people`,
//! `catch_up`, `replay`, `evictions`, `interest`, `position`) own their state, do not know the task, and return what it
//! has to do.
//!
//! What must hold: before a channel is followed, its subscription stands and the stream's leader was asked, on the same
//! connection, where the stream ends (the barrier): every event that is stored after that is received. It does not hold
//! for signals between people, which are never stored and are received by another connection. A signal of a loss is
//! handled before any live message that came after the loss.

pub(crate) mod access;
#[cfg(any(test, feature = "bench"))]
pub(crate) mod bench;
mod catch_up;
pub(crate) mod channel;
mod channels;
mod confirm;
mod delivery_metrics;
mod evictions;
mod inbox;
mod interest;
mod latency;
mod live;
mod loss_signals;
#[cfg(test)]
mod model;
mod open;
mod people;
mod position;
mod presence_map;
pub(crate) mod push_waiter;
mod received;
mod replay;
pub(crate) mod ring;
pub(crate) mod ring_budget;
mod snapshot;
pub(crate) mod subscribe;
mod subscribers;
mod task;
mod work;

pub(crate) use people::PeopleReady;
pub(crate) use position::ShardPositions;
pub(crate) use task::ShardTask;

use std::sync::Arc;

use async_nats::{Client, jetstream::Context};
use futures_util::StreamExt as _;
use log::AppliedWatch;
use protocol::{
    caller::Caller,
    id::{Shard, ShardCount},
    subject::Channel,
};
use service::nats::Losses;
use tokio::sync::oneshot;

use crate::{api_client::ApiClient, outbox::registry::SocketRegistry};
use inbox::MessageStream;
use push_waiter::PushWaiter;
use ring_budget::RingBudget;
use subscribe::SubscribeRequest;

/// A command of a session to a shard's task.
pub(crate) enum ShardCommand {
    /// Follow a channel.
    Subscribe {
        /// The channel, of this shard.
        channel: Channel,
        /// The socket, and the last event that its client has.
        request: SubscribeRequest,
    },
    /// Answer a socket once its own event was pushed to it.
    NotifyWhenPushed {
        /// The channel, of this shard.
        channel: Channel,
        /// The socket and its event.
        waiter: PushWaiter,
    },
    /// Catch up, because the push of a socket's own event is late: its live copy may be lost.
    PushIsLate {
        /// The channel, of this shard.
        channel: Channel,
        /// The event.
        seq: u64,
    },
    /// Change the caller of a socket that follows a channel, or watches access to it.
    ChangeCaller {
        /// The channel, of this shard.
        channel: Channel,
        /// The socket's number on this node.
        socket_id: u64,
        /// Its caller from now on.
        caller: Caller,
    },
    /// Stop following a channel.
    Unsubscribe {
        /// The channel, of this shard.
        channel: Channel,
        /// The socket's number on this node.
        socket_id: u64,
        /// Number of the socket's frame that asks: a subscription by a later frame stays.
        frame_number: u64,
        /// End its watch on access to the channel instead.
        is_watcher: bool,
        /// Resolves once nothing more of the channel is pushed to it.
        done: oneshot::Sender<()>,
    },
}

/// The handles that the tasks of all shards of a node share.
#[derive(Clone)]
pub(crate) struct ShardContext {
    pub(crate) client: Client,
    /// The shard of each subscription of `client`: a shard catches up with the messages that its subscriptions drop.
    pub(crate) losses: Losses,
    /// A connection of its own for signals between people: no number of them delays stored events or makes them lost.
    /// `typing` is not stored either, but is received by the subscription of its room, on the other connection.
    pub(crate) unstored_client: Client,
    pub(crate) jetstream: Context,
    pub(crate) shards: ShardCount,
    pub(crate) applied: AppliedWatch,
    pub(crate) api: ApiClient,
    pub(crate) sockets: SocketRegistry,
    pub(crate) positions: Arc<ShardPositions>,
    pub(crate) ring_budget: Arc<RingBudget>,
    pub(crate) people_ready: PeopleReady,
}

impl ShardContext {
    /// Subscribes for a shard, which is signalled if the subscription drops messages.
    async fn subscribe(&self, shard: Shard, subject: String) -> anyhow::Result<MessageStream> {
        Ok(self.losses.assign(shard, self.client.subscribe(subject).await?).boxed())
    }
}
