//! Runs one query for a room at a time (single-flight): it asks about the people of every waiting request.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use protocol::{error::Error, id::UserId};
use tokio::time::Instant;

use super::room_access::RoomAccess;

/// The load of one room; the request that holds its lock runs the query.
#[derive(Default)]
pub(super) struct RoomLoad {
    /// People whom the next query asks about. Only waiting requests add to them, which bounds them.
    waiting_people: Mutex<HashSet<UserId>>,
    /// The last answer, for the requests that waited for it.
    pub(super) last_answer: tokio::sync::Mutex<Option<LoadedAccess>>,
}

/// An answer of Postgres, or why there is none.
pub(super) struct LoadedAccess {
    pub(super) queried_at: Instant,
    /// The people whom the query asked about.
    pub(super) people: HashSet<UserId>,
    pub(super) result: Result<RoomAccess, Error>,
}

impl RoomLoad {
    /// Adds these people to the next query.
    pub(super) fn join(&self, people: &[&UserId]) {
        self.waiting().extend(people.iter().map(|user| (*user).clone()));
    }

    /// Returns the people that a query started now must ask about: these, and those of every waiting request.
    pub(super) fn take_people(&self, people: &[&UserId]) -> HashSet<UserId> {
        let mut all = std::mem::take(&mut *self.waiting());
        all.extend(people.iter().map(|user| (*user).clone()));
        all
    }

    fn waiting(&self) -> MutexGuard<'_, HashSet<UserId>> {
        self.waiting_people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoadedAccess {
    /// Returns the answer for a request that has waited since `since` and asks about these people; `None` if it may
    /// lack something. An error is shared too: otherwise the waiting requests would fail one after the other.
    pub(super) fn for_caller(
        &self,
        since: Instant,
        people: &[&UserId],
        is_current: impl Fn(&RoomAccess) -> bool,
    ) -> Option<Result<RoomAccess, Error>> {
        if self.queried_at < since {
            return None;
        }
        match &self.result {
            Err(error) => Some(Err(error.clone())),
            Ok(access) => {
                let is_whole = people.iter().all(|user| self.people.contains(*user)) && is_current(access);
                is_whole.then(|| Ok(access.for_people(people)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::entries::tests::{room, user};

    fn answer(people: &[&str]) -> LoadedAccess {
        let access = RoomAccess::new(room(1, 7).into()).with_members([user("bob")], 7, Instant::now());
        let people = people.iter().map(|name| user(name)).collect();
        LoadedAccess { queried_at: Instant::now(), people, result: Ok(access) }
    }

    #[test]
    fn load_asks_about_the_people_of_all_waiters() {
        let turn = RoomLoad::default();
        turn.join(&[&user("ann")]);
        turn.join(&[&user("bob"), &user("ann")]);
        assert_eq!(turn.take_people(&[&user("eve")]), ["ann", "bob", "eve"].map(user).into());
        assert_eq!(turn.take_people(&[]), HashSet::new(), "each is asked about once");
    }

    #[test]
    fn load_result_is_shared_with_waiters_whose_people_it_covers() {
        let before = Instant::now();
        let answer = answer(&["bob", "eve"]);
        let of = |since, people: &[&UserId]| {
            answer.for_caller(since, people, |_| true).map(|found| found.expect("a room"))
        };
        let (bob, eve, ann) = (user("bob"), user("eve"), user("ann"));
        let shared = of(before, &[&bob]).expect("it is about him");
        assert!(shared.has_member(&bob));
        assert!(!of(before, &[&eve]).expect("it is about her").has_member(&bob), "others are left out");
        assert!(of(before, &[&bob, &ann]).is_none(), "nothing is known of ann");
        assert!(of(Instant::now(), &[&bob]).is_none(), "asked for later than it was");
        assert!(answer.for_caller(before, &[&bob], |_| false).is_none(), "something newer was heard");
        let error = LoadedAccess { result: Err(Error::not_found()), ..answer };
        assert!(
            error.for_caller(before, &[&ann], |_| false).is_some_and(|found| found.is_err()),
            "an error is everybody's"
        );
    }
}
