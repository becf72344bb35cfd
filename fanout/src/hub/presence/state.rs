//! Who is here, what the log was told of each, and what it has to be told next.
//!
//! What must hold: a person is in at most one place of one queue, and of nobody two things are on their way
//! at once.

use std::collections::{HashMap, VecDeque, hash_map};

use shared::{
    error::Error,
    id::{Shard, UserId},
    metric_names as names,
    rpc::{CHANGES_MAX, PresenceChange, PresenceRequest, Reply, expiry},
};
use tokio::sync::watch;

use super::Place;

/// Tries before it is given up.
const TRIES: u32 = 120;

/// A person somewhere.
pub(super) type Key = (Place, UserId);

/// The people of a node.
pub(super) struct State {
    pub(super) people: HashMap<Key, Here>,
    /// Of whom each shard may have to be told, while somebody does that. One question is under way a shard: the
    /// others wait here, not at the broker, and go together. What has changed meanwhile need not be said.
    queues: HashMap<Shard, VecDeque<Key>>,
    pub(super) incarnation: u64,
    counter: u64,
    /// How many the log may take for present.
    pub(super) told: watch::Sender<usize>,
}

/// One of them.
#[derive(Default)]
pub(super) struct Here {
    pub(super) sockets: usize,
    told: Told,
    /// They are in their shard's queue, or are just told of.
    queued: bool,
    /// How often in a row telling it has failed.
    failed: u32,
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

impl State {
    /// Nobody is here.
    pub(super) fn new(incarnation: u64) -> Self {
        let told = watch::Sender::new(0);
        Self { people: HashMap::new(), queues: HashMap::new(), incarnation, counter: 0, told }
    }

    /// Puts a person into their shard's queue. True where nobody is at it.
    pub(super) fn queue(&mut self, shard: Shard, key: Key) -> bool {
        let Some(here) = self.people.get_mut(&key) else { return false };
        if std::mem::replace(&mut here.queued, true) {
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
    pub(super) fn next(&mut self, shard: Shard) -> Option<PresenceRequest> {
        let mut changes = Vec::new();
        while changes.len() < CHANGES_MAX {
            let Some(key) = self.queues.get_mut(&shard)?.pop_front() else { break };
            changes.extend(self.untold(&key));
        }
        if changes.is_empty() {
            self.queues.remove(&shard);
            return None;
        }
        Some(PresenceRequest { incarnation: self.incarnation, changes, expires_at: expiry() })
    }

    /// What has to be said of a person; where nothing, they are in the queue no more.
    fn untold(&mut self, key: &Key) -> Option<PresenceChange> {
        if let Told::Here(by) | Told::Unsure(by) = self.people.get(key)?.told
            && by != self.incarnation
        {
            // What an incarnation that is over has said is over with it.
            self.set(key, Told::Gone);
        }
        let here = self.people.get_mut(key)?;
        let joined = here.sockets > 0;
        if here.told == (if joined { Told::Here(self.incarnation) } else { Told::Gone }) {
            here.queued = false;
            if !joined {
                self.people.remove(key);
            }
            return None;
        }
        self.counter += 1;
        Some(PresenceChange { room: key.0, user: key.1.clone(), joined, counter: self.counter })
    }

    /// What became of what was said. All of them are looked at again: they may have come or gone meanwhile.
    pub(super) fn note(
        &mut self,
        shard: Shard,
        said: PresenceRequest,
        told: Reply<Vec<Reply<()>>>,
    ) -> Result<(), Error> {
        let PresenceRequest { incarnation, changes, .. } = said;
        let outcomes = match told {
            Ok(outcomes) if outcomes.len() == changes.len() => outcomes,
            Ok(_) => vec![Err(Error::internal(&"an answer that does not answer all")); changes.len()],
            Err(error) => vec![Err(error); changes.len()],
        };
        let mut noted = Ok(());
        for (PresenceChange { room, user, joined, .. }, outcome) in changes.into_iter().zip(outcomes) {
            let key = (room, user);
            let known = if joined { Told::Here(incarnation) } else { Told::Gone };
            // Nobody is forgotten while they are told of.
            let Some(here) = self.people.get_mut(&key) else { continue };
            here.failed = if outcome.is_ok() { 0 } else { here.failed + 1 };
            if here.failed == TRIES {
                here.failed = 0;
                metrics::counter!(names::PRESENCE_ABANDONED_TOTAL).increment(1);
            }
            let told = if here.failed == 0 { known } else { Told::Unsure(incarnation) };
            self.set(&key, told);
            if let Some(queue) = self.queues.get_mut(&shard) {
                queue.push_back(key);
            }
            noted = noted.and(outcome);
        }
        noted
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
    use shared::id::RoomId;

    use super::*;

    const SHARD: Shard = Shard::SYSTEM;

    /// What is said next of a person with so many sockets: whether they are here, under which counter.
    fn next(state: &mut State, key: &Key, sockets: usize) -> Option<(bool, u64)> {
        state.people.entry(key.clone()).or_default().sockets = sockets;
        state.untold(key).map(|change| (change.joined, change.counter))
    }

    /// Somebody has so many sockets now; true where nobody tells their shard.
    fn has(state: &mut State, user: &str, sockets: usize) -> bool {
        let key = (Some(RoomId(42)), user.parse().expect("an id"));
        state.people.entry(key.clone()).or_default().sockets = sockets;
        state.queue(SHARD, key)
    }

    /// Whom the shard is told of next.
    fn people(request: &PresenceRequest) -> Vec<(&str, bool)> {
        request.changes.iter().map(|change| (change.user.as_str(), change.joined)).collect()
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

    #[test]
    fn who_comes_while_a_shard_is_told_waits_and_goes_with_the_others() {
        let mut state = State::new(1);
        assert!(has(&mut state, "ann", 1));
        let first = state.next(SHARD).expect("ann has come");
        assert_eq!(people(&first), [("ann", true)]);
        assert!(!has(&mut state, "bob", 1) && !has(&mut state, "eve", 1), "somebody tells the shard");
        assert!(!has(&mut state, "eve", 0) && !has(&mut state, "ann", 0), "nobody is queued twice");
        state.note(SHARD, first, Ok(vec![Ok(())])).expect("the log knows");
        let second = state.next(SHARD).expect("there is more");
        assert_eq!(people(&second), [("bob", true), ("ann", false)], "eve was never there");
        state.note(SHARD, second, Ok(vec![Ok(()), Ok(())])).expect("the log knows");
        assert!(state.next(SHARD).is_none() && state.queues.is_empty());
        assert_eq!((state.people.len(), *state.told.borrow()), (1, 1));
    }

    #[test]
    fn who_could_not_be_told_of_is_told_again_and_once_too_often_is_given_up() {
        let mut state = State::new(1);
        let refused = || Error::unavailable("The log", &"a test");
        has(&mut state, "ann", 1);
        has(&mut state, "bob", 1);
        let both = state.next(SHARD).expect("two have come");
        state.note(SHARD, both, Ok(vec![Err(refused()), Ok(())])).expect_err("one is not known");
        for _ in 1..TRIES {
            let ann = state.next(SHARD).expect("ann is not known");
            assert_eq!(people(&ann), [("ann", true)]);
            state.note(SHARD, ann, Err(refused())).expect_err("nobody answers");
        }
        assert!(state.next(SHARD).is_none(), "given up");
        assert!(has(&mut state, "ann", 0), "it is told that she leaves all the same");
        assert_eq!(people(&state.next(SHARD).expect("ann has left")), [("ann", false)]);
    }

    #[test]
    fn an_answer_that_does_not_answer_all_says_nothing() {
        let mut state = State::new(1);
        has(&mut state, "ann", 1);
        let request = state.next(SHARD).expect("ann has come");
        state.note(SHARD, request, Ok(vec![])).expect_err("not answered");
        assert_eq!(people(&state.next(SHARD).expect("again")), [("ann", true)]);
    }
}
