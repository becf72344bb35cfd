//! The people who are on this node, online and in rooms, and what the log was told of them.
//!
//! What must hold: however many sockets a person has here, the log hears one join and one leave a
//! room, in that order; what it was told follows what is true until it has caught up, and a word that was
//! not acknowledged may have been heard all the same, so the next one is said whatever it was. The counter
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
use tokio::sync::{Semaphore, watch};

use crate::ask::Ask;

/// A person whose last socket closed is still there that long: a reload is no leave.
const GRACE: Duration = Duration::from_secs(5);
/// Between tries to tell the log.
const AGAIN: Duration = Duration::from_millis(500);
/// Tries before it is given up.
const TRIES: u32 = 120;
/// Words to the log that are under way at once. The others wait here, not at the broker: what has changed
/// meanwhile need not be said, and none is asked twice because api is slow.
const AT_ONCE: usize = 256;

/// Where a person is: in a room, or, without one, online.
pub(crate) type Place = Option<RoomId>;

/// A node's people.
#[derive(Clone)]
pub(crate) struct Presence {
    state: Arc<Mutex<State>>,
    turns: Arc<Semaphore>,
    ask: Ask,
}

type Key = (Place, UserId);

struct State {
    people: HashMap<Key, Here>,
    incarnation: u64,
    counter: u64,
    /// How many the log may take for present.
    told: watch::Sender<usize>,
}

#[derive(Default)]
struct Here {
    sockets: usize,
    told: Told,
    /// Someone is telling it.
    telling: bool,
}

/// What the log knows of a person, and by which incarnation's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    /// That they are not here, if it ever knew of them.
    #[default]
    Gone,
    /// That they are here.
    Here(u64),
    /// The one or the other: the last word was not acknowledged.
    Unsure(u64),
}

impl Presence {
    /// Nobody is here yet.
    pub(crate) fn new(ask: Ask, incarnation: u64) -> Self {
        let state = Arc::new(Mutex::new(State::new(incarnation)));
        Self { state, turns: Arc::new(Semaphore::new(AT_ONCE)), ask }
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
        let mut told = self.state().told.subscribe();
        // The sender lives in self: waiting can't fail.
        let _ = told.wait_for(|told| *told == 0).await;
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
            // Nobody closes it.
            while let Ok(turn) = this.turns.acquire().await {
                let Some(request) = this.untold(&key) else { return };
                let known = if request.joined { Told::Here(request.incarnation) } else { Told::Gone };
                let Err(error) = this.ask.presence(&request).await else {
                    this.state().set(&key, known);
                    continue;
                };
                drop(turn);
                tracing::warn!(%error, place = ?key.0, "the log may not know who is here");
                tries += 1;
                if tries < TRIES {
                    this.state().set(&key, Told::Unsure(request.incarnation));
                } else {
                    this.state().set(&key, known);
                    metrics::counter!(names::PRESENCE_ABANDONED_TOTAL).increment(1);
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
    }

    /// Locked for that long only.
    fn untold(&self, key: &Key) -> Option<PresenceRequest> {
        self.state().untold(key)
    }
}

impl State {
    fn new(incarnation: u64) -> Self {
        Self { people: HashMap::new(), incarnation, counter: 0, told: watch::Sender::new(0) }
    }

    /// What the log has to be told next; where nothing, whoever tells is done.
    fn untold(&mut self, key: &Key) -> Option<PresenceRequest> {
        if let Told::Here(by) | Told::Unsure(by) = self.people.get(key)?.told
            && by != self.incarnation
        {
            // What an incarnation that is over has said is over with it.
            self.set(key, Told::Gone);
        }
        let here = self.people.get_mut(key)?;
        let joined = here.sockets > 0;
        if here.told == (if joined { Told::Here(self.incarnation) } else { Told::Gone }) {
            here.telling = false;
            if !joined {
                self.people.remove(key);
            }
            return None;
        }
        self.counter += 1;
        Some(PresenceRequest {
            room: key.0,
            user: key.1.clone(),
            joined,
            incarnation: self.incarnation,
            counter: self.counter,
            expires_at: expiry(),
        })
    }

    /// The log knows that of the person now.
    fn set(&mut self, key: &Key, told: Told) {
        let Some(here) = self.people.get_mut(key) else { return };
        let before = std::mem::replace(&mut here.told, told);
        let (was, is) = (before != Told::Gone, told != Told::Gone);
        if was == is {
            return;
        }
        self.told.send_modify(|told| *told = if is { *told + 1 } else { told.saturating_sub(1) });
        let name = if key.0.is_some() { names::PARTICIPANTS } else { names::PEOPLE_ONLINE };
        metrics::gauge!(name).increment(if is { 1.0 } else { -1.0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said next of a person with so many sockets: whether they are here, under which counter.
    fn next(state: &mut State, key: &Key, sockets: usize) -> Option<(bool, u64)> {
        state.people.entry(key.clone()).or_default().sockets = sockets;
        state.untold(key).map(|request| (request.joined, request.counter))
    }

    fn key() -> Key {
        (Some(RoomId(42)), "7".parse().expect("an id"))
    }

    #[test]
    fn what_was_acknowledged_is_not_said_again() {
        let (mut state, key) = (State::new(1), key());
        assert_eq!(next(&mut state, &key, 2), Some((true, 1)));
        state.set(&key, Told::Here(1));
        assert_eq!((next(&mut state, &key, 1), *state.told.borrow()), (None, 1));
        assert_eq!(next(&mut state, &key, 0), Some((false, 2)));
        state.set(&key, Told::Gone);
        assert_eq!((next(&mut state, &key, 0), *state.told.borrow()), (None, 0));
        assert!(state.people.is_empty());
    }

    #[test]
    fn what_was_not_acknowledged_may_have_been_heard() {
        let (mut state, key) = (State::new(1), key());
        assert_eq!(next(&mut state, &key, 1), Some((true, 1)));
        state.set(&key, Told::Unsure(1));
        assert_eq!((next(&mut state, &key, 0), *state.told.borrow()), (Some((false, 2)), 1));
        state.set(&key, Told::Unsure(1));
        assert_eq!(next(&mut state, &key, 1), Some((true, 3)), "they came back meanwhile");
        state.set(&key, Told::Here(1));
        assert_eq!(next(&mut state, &key, 1), None);
    }

    #[test]
    fn another_incarnation_tells_everyone_anew() {
        let (mut state, key) = (State::new(1), key());
        assert_eq!(next(&mut state, &key, 1), Some((true, 1)));
        state.set(&key, Told::Here(1));
        state.incarnation = 2;
        assert_eq!(next(&mut state, &key, 1), Some((true, 2)));
        state.set(&key, Told::Unsure(2));
        state.incarnation = 3;
        assert_eq!((next(&mut state, &key, 0), *state.told.borrow()), (None, 0), "it left with what is over");
    }
}
