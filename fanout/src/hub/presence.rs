//! The people who are on this node, online and in rooms, and what the log was told of them.
//!
//! What must hold: however many sockets a person has here, the log hears one join and one leave a
//! room, in that order; what it was told follows what is true until it has caught up. The counter
//! is the node's own and only rises, so a late word never wins over a newer one. A node that was
//! taken for dead begins again under a new incarnation, and tells everyone anew.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use shared::{
    id::{RoomId, UserId},
    metric_names as names,
    rpc::{PresenceRequest, expiry},
};
use tokio::sync::watch;

use crate::ask::Ask;

/// A person whose last socket closed is still there that long: a reload is no leave.
const GRACE: Duration = Duration::from_secs(5);
/// Between tries to tell the log.
const AGAIN: Duration = Duration::from_millis(500);
/// Tries before it is given up.
const TRIES: u32 = 120;

/// Where a person is: in a room, or, without one, online.
pub(crate) type Place = Option<RoomId>;

/// A node's people.
#[derive(Clone)]
pub(crate) struct Presence {
    state: Arc<Mutex<State>>,
    /// How many the log was told are here.
    told: watch::Sender<usize>,
    ask: Ask,
}

struct State {
    people: HashMap<(Place, UserId), Here>,
    incarnation: u64,
    counter: u64,
}

#[derive(Default)]
struct Here {
    sockets: usize,
    /// The incarnation under which the log was told last that they are here.
    told: Option<u64>,
    /// Someone is telling it.
    telling: bool,
}

impl Presence {
    /// Nobody is here yet.
    pub(crate) fn new(ask: Ask, incarnation: u64) -> Self {
        let state = State { people: HashMap::new(), incarnation, counter: 0 };
        Self { state: Arc::new(Mutex::new(state)), told: watch::Sender::new(0), ask }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The incarnation that the node speaks under now.
    pub(crate) fn incarnation(&self) -> u64 {
        self.state().incarnation
    }

    /// The node was, or may have been, taken for dead: it tells everyone anew.
    pub(crate) fn begin_again(&self) {
        let everyone: Vec<_> = {
            let mut state = self.state();
            state.incarnation = rand::random();
            tracing::warn!(incarnation = state.incarnation, people = state.people.len(), "a new incarnation");
            state.people.keys().cloned().collect()
        };
        metrics::counter!(names::INCARNATIONS_TOTAL).increment(1);
        for (place, user) in everyone {
            self.settle(place, user);
        }
    }

    /// A socket of the person is there now.
    pub(crate) fn enter(&self, place: Place, user: UserId) {
        self.state().people.entry((place, user.clone())).or_default().sockets += 1;
        self.settle(place, user);
    }

    /// A socket of the person has left, by its own word or because it had to.
    pub(crate) fn leave(&self, place: Place, user: UserId) {
        self.one_less(place, &user);
        self.settle(place, user);
    }

    /// A socket of the person was closed: they may come back.
    pub(crate) fn lose(&self, place: Place, user: UserId) {
        self.one_less(place, &user);
        let this = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            this.settle(place, user);
        });
    }

    fn one_less(&self, place: Place, user: &UserId) {
        if let Some(here) = self.state().people.get_mut(&(place, user.clone())) {
            here.sockets = here.sockets.saturating_sub(1);
        }
    }

    /// The node stops: everyone it holds leaves without grace. Resolves when the log knows.
    pub(crate) async fn leave_all(&self) {
        let here: Vec<_> = self.state().people.keys().cloned().collect();
        for (place, user) in here {
            if let Some(here) = self.state().people.get_mut(&(place, user.clone())) {
                here.sockets = 0;
            }
            self.settle(place, user);
        }
        // The sender lives in self: waiting can't fail.
        let _ = self.told.subscribe().wait_for(|told| *told == 0).await;
    }

    /// Tells the log what is true of the person, until it knows.
    fn settle(&self, place: Place, user: UserId) {
        let key = (place, user);
        {
            let mut state = self.state();
            let Some(here) = state.people.get_mut(&key) else { return };
            if std::mem::replace(&mut here.telling, true) {
                return;
            }
        }
        let this = self.clone();
        tokio::spawn(async move {
            let mut tries = 0;
            while let Some(request) = this.untold(&key) {
                match this.ask.presence(&request).await {
                    Ok(()) => this.told(&key, &request),
                    Err(error) => {
                        tracing::warn!(%error, place = ?key.0, "the log was not told who is here");
                        tries += 1;
                        if tries == TRIES {
                            this.told(&key, &request);
                            metrics::counter!(names::PRESENCE_ABANDONED_TOTAL).increment(1);
                        }
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        });
    }

    /// What the log has to be told next; where nothing, whoever tells is done.
    fn untold(&self, key: &(Place, UserId)) -> Option<PresenceRequest> {
        let mut state = self.state();
        let incarnation = state.incarnation;
        let here = state.people.get_mut(key)?;
        if here.told.is_some_and(|told| told != incarnation) {
            // What an incarnation that is over has said is over with it.
            here.told = None;
            self.count(key.0, false);
        }
        let joined = here.sockets > 0;
        if joined == here.told.is_some() {
            here.telling = false;
            if !joined {
                state.people.remove(key);
            }
            return None;
        }
        state.counter += 1;
        Some(PresenceRequest {
            room: key.0,
            user: key.1.clone(),
            joined,
            incarnation,
            counter: state.counter,
            expires_at: expiry(),
        })
    }

    fn told(&self, key: &(Place, UserId), request: &PresenceRequest) {
        if let Some(here) = self.state().people.get_mut(key) {
            here.told = request.joined.then_some(request.incarnation);
            self.count(key.0, request.joined);
        }
    }

    fn count(&self, place: Place, joined: bool) {
        self.told.send_modify(|told| {
            *told = if joined { *told + 1 } else { told.saturating_sub(1) };
        });
        let name = if place.is_some() { names::PARTICIPANTS } else { names::PEOPLE_ONLINE };
        metrics::gauge!(name).increment(if joined { 1.0 } else { -1.0 });
    }
}
