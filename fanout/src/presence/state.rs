//! Holds the people of a node, and orders what is to be appended about them.
//!
//! What must hold: a person is in at most one place of one queue, and of nobody two things are on their way
//! at once. What failed is said again until it is acknowledged, or refused for good.

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

/// A person somewhere.
pub(super) type PresenceKey = (PresencePlace, UserId);

/// The people of a node.
pub(super) struct PresenceState {
    people: HashMap<PresenceKey, PresenceEntry>,
    /// Of whom each shard may have to be told, while somebody does that. One question is under way a shard: the
    /// others wait here, not at the broker, and go together. What has changed meanwhile need not be said.
    queues: HashMap<Shard, VecDeque<PresenceKey>>,
    pub(super) incarnation: u64,
    counter: u64,
    /// How many the log may take for present.
    pub(super) published_count: watch::Sender<usize>,
}

impl PresenceState {
    /// Nobody is here.
    pub(super) fn new(incarnation: u64) -> Self {
        let told = watch::Sender::new(0);
        Self {
            people: HashMap::new(),
            queues: HashMap::new(),
            incarnation,
            counter: 0,
            published_count: told,
        }
    }

    /// Everyone of whom something is known.
    pub(super) fn everyone(&self) -> Vec<PresenceKey> {
        self.people.keys().cloned().collect()
    }

    /// A socket of the person is there now.
    pub(super) fn enter(&mut self, key: PresenceKey) {
        self.people.entry(key).or_default().enter();
    }

    /// A socket has left by its own word, or because it had to.
    pub(super) fn leave(&mut self, key: &PresenceKey) {
        self.people.get_mut(key).into_iter().for_each(PresenceEntry::leave);
    }

    /// Every socket of the person has left.
    pub(super) fn leave_all(&mut self, key: &PresenceKey) {
        self.people.get_mut(key).into_iter().for_each(PresenceEntry::leave_all);
    }

    /// A socket was closed. True where somebody has to wait for [`wait_for_grace`].
    pub(super) fn socket_closed(&mut self, key: &PresenceKey, now: Instant) -> bool {
        self.people.get_mut(key).is_some_and(|entry| entry.socket_closed(now))
    }

    /// When the grace of a person ends; `None` where it is over, and nobody waits for it any more.
    pub(super) fn poll_grace_end(&mut self, key: &PresenceKey, now: Instant) -> Option<Instant> {
        let entry = self.people.get_mut(key)?;
        let end = entry.grace_end(now);
        entry.has_grace_timer = end.is_some();
        end
    }

    /// Puts a person into their shard's queue. True where nobody is at it.
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

    /// What a shard is told next; `None` where there is nothing, and whoever tells it is done.
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

    /// What has to be said of a person; where nothing, they are in the queue no more.
    fn pending_change(&mut self, key: &PresenceKey, now: Instant) -> Option<PresenceChange> {
        if let Published::Present(by) | Published::Unknown(by) = self.people.get(key)?.published
            && by != self.incarnation
        {
            // What an incarnation that is over has said is over with it.
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

    /// What became of what was said. All of them are looked at again: they may have come or gone meanwhile.
    /// The error is one after which it is said again.
    pub(super) fn apply_reply(
        &mut self,
        shard: Shard,
        request: PresenceRequest,
        reply: RpcResult<Vec<RpcResult<()>>>,
    ) -> Result<(), Error> {
        let PresenceRequest { incarnation, changes, .. } = request;
        let outcomes = match reply {
            Ok(outcomes) if outcomes.len() == changes.len() => outcomes,
            Ok(_) => vec![Err(Error::internal(&"an answer that does not answer all")); changes.len()],
            Err(error) => vec![Err(error); changes.len()],
        };
        let mut noted = Ok(());
        for (PresenceChange { room, user, joined, .. }, outcome) in changes.into_iter().zip(outcomes) {
            let key = (room, user);
            let known = if joined { Published::Present(incarnation) } else { Published::Absent };
            match outcome {
                Ok(()) => self.set_published(&key, known),
                Err(error) if is_final(error.code) => {
                    tracing::error!(%error, place = ?key.0, joined, "the log refuses a join or leave");
                    metrics::counter!(names::PRESENCE_ABANDONED_TOTAL).increment(1);
                    self.set_published(&key, known);
                }
                Err(error) => {
                    self.set_published(&key, Published::Unknown(incarnation));
                    noted = Err(error);
                }
            }
            if let Some(queue) = self.queues.get_mut(&shard) {
                queue.push_back(key);
            }
        }
        noted
    }

    /// The log knows that of the person now.
    fn set_published(&mut self, key: &PresenceKey, published: Published) {
        let Some(entry) = self.people.get_mut(key) else { return };
        let before = std::mem::replace(&mut entry.published, published);
        let present = count_delta(before != Published::Absent, published != Published::Absent);
        if present != 0 {
            self.published_count.send_modify(|told| *told = told.saturating_add_signed(present));
            let name = if key.0.is_some() { names::PARTICIPANTS } else { names::PEOPLE_ONLINE };
            metrics::gauge!(name).increment(present as f64);
        }
        let is_unsure = |told| matches!(told, Published::Unknown(_));
        let unsure = count_delta(is_unsure(before), is_unsure(published));
        if unsure != 0 {
            metrics::gauge!(names::PRESENCE_UNACKNOWLEDGED).increment(unsure as f64);
        }
    }
}

/// What a count changes by where something was, or is, to be counted.
const fn count_delta(was: bool, is: bool) -> isize {
    is as isize - was as isize
}

/// Whether asking again can't help: the request itself is refused, whatever the state of the log.
fn is_final(code: ErrorCode) -> bool {
    let is_refusal = (400..500).contains(&code.status());
    is_refusal && !matches!(code, ErrorCode::RequestTimeout | ErrorCode::RateLimited)
}

/// The state, whatever became of who had it before.
pub(super) fn lock(state: &Mutex<PresenceState>) -> MutexGuard<'_, PresenceState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resolves once a person whose last socket closed has come back, or has been away for the whole grace.
pub(super) async fn wait_for_grace(state: &Mutex<PresenceState>, key: &PresenceKey) {
    loop {
        let end = lock(state).poll_grace_end(key, Instant::now());
        let Some(end) = end else { return };
        sleep_until(end).await;
    }
}
