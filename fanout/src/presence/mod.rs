//! Publishes to the log which people are on this node, online and in rooms.
//!
//! What must hold: however many sockets a person has here, the log gets one join and one leave per room, in that order.
//! Changes are appended, and retried without limit, until the log has everyone's present state. A change that was not
//! acknowledged may be stored all the same, so after it the person's present state is appended, even if the last
//! acknowledged change said so already. Each change has a counter that only rises on this node, so one that is stored
//! late never overrides a newer one. A node that was declared dead takes a new incarnation, and appends a join for
//! everyone again.

mod entry;
#[cfg(test)]
mod property;
mod state;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use protocol::{
    id::{RoomId, Shard, ShardCount, UserId},
    subject::Channel,
};
use service::{metric_names as names, random};
use state::{PresenceKey, PresenceState};
use tokio::time::Instant;

use crate::api_client::ApiClient;

/// Pause after a request that left changes unacknowledged.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Where a person is present: a room, or `None` for being online.
pub(crate) type PresencePlace = Option<RoomId>;

/// Publishes the presence of a node's people. Clones share their state.
#[derive(Clone)]
pub(crate) struct PresencePublisher {
    state: Arc<Mutex<PresenceState>>,
    shards: ShardCount,
    api: ApiClient,
}

impl PresencePublisher {
    /// Creates the publisher of a node without people.
    pub(crate) fn new(api: ApiClient, shards: ShardCount, incarnation: u64) -> Self {
        Self { state: Arc::new(Mutex::new(PresenceState::new(incarnation))), shards, api }
    }

    fn state(&self) -> MutexGuard<'_, PresenceState> {
        state::lock(&self.state)
    }

    /// The node's current incarnation.
    pub(crate) fn incarnation(&self) -> u64 {
        self.state().incarnation
    }

    /// Takes a new incarnation, because api has, or may have, declared the current one dead, and appends a join for
    /// everyone who is present.
    pub(crate) fn restart_as_new_incarnation(&self) {
        let everyone = {
            let mut state = self.state();
            state.incarnation = random::process_id();
            let everyone = state.everyone();
            tracing::warn!(
                incarnation = state.incarnation,
                people = everyone.len(),
                "this node may have been declared dead: it takes a new incarnation and appends all joins again"
            );
            everyone
        };
        metrics::counter!(names::INCARNATIONS_TOTAL).increment(1);
        everyone.into_iter().for_each(|key| self.schedule_publish(key));
    }

    /// Notes a socket that the person has opened at `place`.
    pub(crate) fn enter(&self, place: PresencePlace, user: UserId) {
        let key = (place, user);
        self.state().enter(key.clone());
        self.schedule_publish(key);
    }

    /// Notes a socket that has left `place` on request, or because its right ended: without a grace.
    pub(crate) fn leave(&self, place: PresencePlace, user: UserId) {
        let key = (place, user);
        self.state().leave(&key);
        self.schedule_publish(key);
    }

    /// Notes a socket that was closed. If it was the person's last at `place`, the leave follows after a grace.
    pub(crate) fn socket_closed(&self, place: PresencePlace, user: UserId) {
        let key = (place, user);
        if self.state().socket_closed(&key, Instant::now()) {
            let this = self.clone();
            tokio::spawn(async move {
                state::wait_for_grace(&this.state, &key).await;
                this.schedule_publish(key);
            });
        }
    }

    /// Makes everyone leave without a grace, because the node stops. Resolves when the log has all leaves.
    pub(crate) async fn leave_all(&self) {
        let everyone = self.state().everyone();
        for key in everyone {
            self.state().leave_all(&key);
            self.schedule_publish(key);
        }
        let mut published = self.state().published_count.subscribe();
        // The sender lives in self: waiting can't fail.
        let _ = published.wait_for(|published| *published == 0).await;
    }

    /// Queues the person for their shard, and starts the task that appends the shard's changes if none runs.
    fn schedule_publish(&self, key: PresenceKey) {
        let channel = match &key {
            (Some(room), _) => Channel::Room(*room),
            (None, user) => Channel::User(user.clone()),
        };
        let shard = channel.shard(self.shards);
        if self.state().queue(shard, key) {
            tokio::spawn(self.clone().publish(shard));
        }
    }

    /// Appends the changes of everyone in a shard's queue, until the queue is empty.
    async fn publish(self, shard: Shard) {
        loop {
            // In a statement of its own, so that the lock is not held during the request.
            let next = self.state().next_request(shard, Instant::now());
            let Some(request) = next else { return };
            let published = self.api.publish_presence(&request).await;
            let outcome = self.state().apply_reply(shard, request, published);
            if let Err(error) = outcome {
                tracing::warn!(%error, %shard, "joins or leaves were not acknowledged: they are retried");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }
}
