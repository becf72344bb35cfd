//! Publishes to the log who is on this node, online and in rooms.
//!
//! What must hold: however many sockets a person has here, the log receives one join and one leave a
//! room, in that order; what it was told follows what is true until it has caught up, however long that
//! takes; and a word that was not acknowledged may have been received all the same, so the next one is said
//! whatever it was. The counter is the node's own and only rises, so a late word never wins over a newer one.
//! A node that was taken for dead begins again under a new incarnation, and tells everyone anew.

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

/// Between tries to tell the log.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Where a person is: in a room, or, without one, online.
pub(crate) type PresencePlace = Option<RoomId>;

/// A node's people.
#[derive(Clone)]
pub(crate) struct PresencePublisher {
    state: Arc<Mutex<PresenceState>>,
    shards: ShardCount,
    api: ApiClient,
}

impl PresencePublisher {
    /// Nobody is here yet.
    pub(crate) fn new(ask: ApiClient, shards: ShardCount, incarnation: u64) -> Self {
        Self { state: Arc::new(Mutex::new(PresenceState::new(incarnation))), shards, api: ask }
    }

    fn state(&self) -> MutexGuard<'_, PresenceState> {
        state::lock(&self.state)
    }

    /// The incarnation that the node speaks under now.
    pub(crate) fn incarnation(&self) -> u64 {
        self.state().incarnation
    }

    /// The node was, or may have been, taken for dead: it tells everyone anew.
    pub(crate) fn restart_as_new_incarnation(&self) {
        let everyone = {
            let mut state = self.state();
            state.incarnation = random::process_id();
            let everyone = state.everyone();
            tracing::warn!(incarnation = state.incarnation, people = everyone.len(), "a new incarnation");
            everyone
        };
        metrics::counter!(names::INCARNATIONS_TOTAL).increment(1);
        everyone.into_iter().for_each(|key| self.schedule_publish(key));
    }

    /// A socket of the person is there now.
    pub(crate) fn enter(&self, place: PresencePlace, user: UserId) {
        let key = (place, user);
        self.state().enter(key.clone());
        self.schedule_publish(key);
    }

    /// A socket of the person has left, by its own word or because it had to.
    pub(crate) fn leave(&self, place: PresencePlace, user: UserId) {
        let key = (place, user);
        self.state().leave(&key);
        self.schedule_publish(key);
    }

    /// A socket of the person was closed: they may come back.
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

    /// The node stops: everyone it holds leaves without grace. Resolves when the log knows.
    pub(crate) async fn leave_all(&self) {
        let everyone = self.state().everyone();
        for key in everyone {
            self.state().leave_all(&key);
            self.schedule_publish(key);
        }
        let mut told = self.state().published_count.subscribe();
        // The sender lives in self: waiting can't fail.
        let _ = told.wait_for(|told| *told == 0).await;
    }

    /// Has the log told what is true of the person, until it knows.
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

    /// Tells a shard of everyone in its queue, until it is empty.
    async fn publish(self, shard: Shard) {
        loop {
            // Locked for that long only.
            let next = self.state().next_request(shard, Instant::now());
            let Some(request) = next else { return };
            let told = self.api.publish_presence(&request).await;
            let noted = self.state().apply_reply(shard, request, told);
            if let Err(error) = noted {
                tracing::warn!(%error, %shard, "the log may not know who is here: it is told again");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }
}
