//! Holds the presence of a node's people, and puts the changes to append into requests.
//!
//! What must hold: a person at a place is in at most one queue, once, and at most one change about them is under way.
//! A change that failed is retried until it is acknowledged, or refused for good.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    sync::{Mutex, MutexGuard, PoisonError},
};

use protocol::{
    error::{Error, ErrorCode},
    id::{Shard, UserId},
    rpc::{PRESENCE_CHANGES_MAX, PresenceChange, PresenceRequest, RpcResult, expiry},
};
use service::metric_names as names;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    PresencePlace,
    entry::{Pending, PresenceEntry, Published},
};

/// A person at a place.
pub(super) type PresenceKey = (PresencePlace, UserId);

/// The presence of a node's people.
pub(super) struct PresenceState {
    people: HashMap<PresenceKey, PresenceEntry>,
    /// The people of each shard about whom changes may have to be appended; a shard has a queue as long as a task works
    /// on it. At most one request per shard is under way: more changes wait here, not at the broker, and share the next
    /// request. A change that is undone meanwhile is never appended.
    queues: HashMap<Shard, VecDeque<PresenceKey>>,
    pub(super) incarnation: u64,
    /// The counter of the last change.
    counter: u64,
    /// Number of people at places for whom the log has, or may have, a join.
    pub(super) published_count: watch::Sender<usize>,
}

impl PresenceState {
    /// Creates the state of a node without people.
    pub(super) fn new(incarnation: u64) -> Self {
        let count = watch::Sender::new(0);
        Self {
            people: HashMap::new(),
            queues: HashMap::new(),
            incarnation,
            counter: 0,
            published_count: count,
        }
    }

    /// Everyone with an entry, present or not.
    pub(super) fn everyone(&self) -> Vec<PresenceKey> {
        self.people.keys().cloned().collect()
    }

    /// See [`PresenceEntry::enter`].
    pub(super) fn enter(&mut self, key: PresenceKey) {
        self.people.entry(key).or_default().enter();
    }

    /// See [`PresenceEntry::leave`].
    pub(super) fn leave(&mut self, key: &PresenceKey) {
        self.people.get_mut(key).into_iter().for_each(PresenceEntry::leave);
    }

    /// See [`PresenceEntry::leave_all`].
    pub(super) fn leave_all(&mut self, key: &PresenceKey) {
        self.people.get_mut(key).into_iter().for_each(PresenceEntry::leave_all);
    }

    /// See [`PresenceEntry::socket_closed`]. True if the caller must start a task that awaits [`wait_for_grace`].
    pub(super) fn socket_closed(&mut self, key: &PresenceKey, now: Instant) -> bool {
        self.people.get_mut(key).is_some_and(|entry| entry.socket_closed(now))
    }

    /// When the grace of a person ends. `None` if there is none or it is over; the entry then has no timer any more.
    pub(super) fn poll_grace_end(&mut self, key: &PresenceKey, now: Instant) -> Option<Instant> {
        let entry = self.people.get_mut(key)?;
        let end = entry.grace_end(now);
        entry.has_grace_timer = end.is_some();
        end
    }

    /// Puts a person into their shard's queue. True if the caller must start the task that works on this queue.
    pub(super) fn queue(&mut self, shard: Shard, key: PresenceKey) -> bool {
        let Some(entry) = self.people.get_mut(&key) else { return false };
        if std::mem::replace(&mut entry.queued, true) {
            return false;
        }
        match self.queues.entry(shard) {
            hash_map::Entry::Occupied(mut queue) => {
                queue.get_mut().push_back(key);
                false
            }
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(VecDeque::from([key]));
                true
            }
        }
    }

    /// Takes people from a shard's queue, and returns a request with their changes, at most [`PRESENCE_CHANGES_MAX`].
    /// `None` if there is no change to append: then the queue is removed, and its task ends.
    pub(super) fn next_request(&mut self, shard: Shard, now: Instant) -> Option<PresenceRequest> {
        let mut changes = Vec::new();
        while changes.len() < PRESENCE_CHANGES_MAX {
            let Some(key) = self.queues.get_mut(&shard)?.pop_front() else { break };
            changes.extend(self.pending_change(&key, now));
        }
        if changes.is_empty() {
            self.queues.remove(&shard);
            return None;
        }
        Some(PresenceRequest { incarnation: self.incarnation, changes, expires_at: expiry() })
    }

    /// The change to append about a person. If there is none, they are no longer queued.
    fn pending_change(&mut self, key: &PresenceKey, now: Instant) -> Option<PresenceChange> {
        if let Published::Present(by) | Published::Unknown(by) = self.people.get(key)?.published
            && by != self.incarnation
        {
            // Api takes everyone of an earlier incarnation out of their places.
            self.set_published(key, Published::Absent);
        }
        let entry = self.people.get_mut(key)?;
        let joined = match entry.pending(self.incarnation, now) {
            Pending::Join => true,
            Pending::Leave => false,
            Pending::Nothing => {
                entry.queued = false;
                if entry.is_forgettable(now) {
                    self.people.remove(key);
                }
                return None;
            }
        };
        self.counter += 1;
        Some(PresenceChange { room: key.0, user: key.1.clone(), joined, counter: self.counter })
    }

    /// Notes the results of a request, and queues all of its people again, since they may have entered or left
    /// meanwhile.
    ///
    /// # Errors
    /// The last error after which a change must be retried.
    pub(super) fn apply_reply(
        &mut self,
        shard: Shard,
        request: PresenceRequest,
        reply: RpcResult<Vec<RpcResult<()>>>,
    ) -> Result<(), Error> {
        let PresenceRequest { incarnation, changes, .. } = request;
        let outcomes = match reply {
            Ok(outcomes) if outcomes.len() == changes.len() => outcomes,
            Ok(_) => vec![Err(Error::internal(&"the answer lacks a result for some changes")); changes.len()],
            Err(error) => vec![Err(error); changes.len()],
        };
        let mut result = Ok(());
        for (PresenceChange { room, user, joined, .. }, outcome) in changes.into_iter().zip(outcomes) {
            let key = (room, user);
            let known = if joined { Published::Present(incarnation) } else { Published::Absent };
            match outcome {
                Ok(()) => self.set_published(&key, known),
                Err(error) if is_final(error.code) => {
                    tracing::error!(%error, place = ?key.0, joined, "api refuses a join or leave: it is not retried");
                    metrics::counter!(names::PRESENCE_ABANDONED_TOTAL).increment(1);
                    self.set_published(&key, known);
                }
                Err(error) => {
                    self.set_published(&key, Published::Unknown(incarnation));
                    result = Err(error);
                }
            }
            if let Some(queue) = self.queues.get_mut(&shard) {
                queue.push_back(key);
            }
        }
        result
    }

    /// Sets what the log has about a person, and updates the count and the metrics.
    fn set_published(&mut self, key: &PresenceKey, published: Published) {
        let Some(entry) = self.people.get_mut(key) else { return };
        let before = std::mem::replace(&mut entry.published, published);
        let present = count_delta(before != Published::Absent, published != Published::Absent);
        if present != 0 {
            self.published_count.send_modify(|count| *count = count.saturating_add_signed(present));
            let name = if key.0.is_some() { names::PARTICIPANTS } else { names::PEOPLE_ONLINE };
            metrics::gauge!(name).increment(present as f64);
        }
        let is_unsure = |published| matches!(published, Published::Unknown(_));
        let unsure = count_delta(is_unsure(before), is_unsure(published));
        if unsure != 0 {
            metrics::gauge!(names::PRESENCE_UNACKNOWLEDGED).increment(unsure as f64);
        }
    }
}

/// The change of a count of things, for a thing that was and is counted, or not.
const fn count_delta(was: bool, is: bool) -> isize {
    is as isize - was as isize
}

/// Whether a retry can't help, because the change itself is refused, whatever the state of the log.
fn is_final(code: ErrorCode) -> bool {
    let is_refusal = (400..500).contains(&code.status());
    is_refusal && !matches!(code, ErrorCode::RequestTimeout | ErrorCode::RateLimited)
}

/// Locks the state, even if a thread has panicked while it held the lock.
pub(super) fn lock(state: &Mutex<PresenceState>) -> MutexGuard<'_, PresenceState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resolves once the person has no grace any more: it is over, or a socket has entered or left meanwhile.
pub(super) async fn wait_for_grace(state: &Mutex<PresenceState>, key: &PresenceKey) {
    loop {
        let end = lock(state).poll_grace_end(key, Instant::now());
        let Some(end) = end else { return };
        sleep_until(end).await;
    }
}
