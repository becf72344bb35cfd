//! One question to Postgres at a time for a room: it asks about the people of everyone who waits for it.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use shared::{error::Error, id::UserId};
use tokio::time::Instant;

use crate::queries::facts::RoomAccess;

/// Whose turn it is to read a room.
#[derive(Default)]
pub(super) struct Turn {
    /// People whom the next question is about: of requests under way, so there are no more than those name.
    waiting: Mutex<HashSet<UserId>>,
    /// The last answer, for those who have waited meanwhile.
    pub(super) last: tokio::sync::Mutex<Option<Answer>>,
}

/// An answer of Postgres.
pub(super) struct Answer {
    asked_at: Instant,
    people: HashSet<UserId>,
    found: Result<RoomAccess, Error>,
}

impl Turn {
    /// Has the next question be about these people too.
    pub(super) fn wait_for(&self, people: &[&UserId]) {
        self.waiting().extend(people.iter().map(|user| (*user).clone()));
    }

    /// Everyone whom a question asked now is about: these people, and those who wait.
    pub(super) fn people(&self, people: &[&UserId]) -> HashSet<UserId> {
        let mut all = std::mem::take(&mut *self.waiting());
        all.extend(people.iter().map(|user| (*user).clone()));
        all
    }

    /// What those who wait by now are told: an error, or what was found, where somebody waits at all.
    pub(super) fn answer(
        &self,
        asked_at: Instant,
        people: HashSet<UserId>,
        found: &Result<RoomAccess, Error>,
    ) -> Option<Answer> {
        let is_for_nobody = found.is_ok() && self.waiting().is_empty();
        (!is_for_nobody).then(|| Answer { asked_at, people, found: found.clone() })
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashSet<UserId>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    /// The answer to one who has asked about these people at `since`; `None` where it may lack something.
    pub(super) fn of(
        &self,
        since: Instant,
        people: &[&UserId],
        is_current: impl Fn(&RoomAccess) -> bool,
    ) -> Option<Result<RoomAccess, Error>> {
        if self.asked_at < since {
            return None;
        }
        match &self.found {
            Err(error) => Some(Err(error.clone())),
            Ok(access) => {
                let is_whole = people.iter().all(|user| self.people.contains(*user)) && is_current(access);
                is_whole.then(|| Ok(access.of(people)))
            }
        }
    }
}
