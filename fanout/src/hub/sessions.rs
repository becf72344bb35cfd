//! All sockets of the node, so that a drain reaches each, and those of each person, so that what
//! concerns a person reaches all of theirs, whatever they follow.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use protocol::{
    caller::Caller,
    error::{Error, ErrorCode},
    id::UserId,
};
use service::rate::{ConcurrencyLimit, refusals};
use tokio::sync::watch;

use crate::session::outbox::Outbox;

/// When a person who has too many sockets may try again, in seconds: a half-open one is closed within a minute.
const FULL_SECONDS: u32 = 10;

/// The node's open sockets.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    open: Arc<Mutex<Open>>,
    count: watch::Sender<usize>,
    max: usize,
    of_person: ConcurrencyLimit,
}

#[derive(Debug, Default)]
struct Open {
    sockets: HashMap<u64, Arc<Outbox>>,
    people: HashMap<UserId, Vec<u64>>,
}

/// One open socket; it is gone from the list when this is dropped.
#[derive(Debug)]
pub(crate) struct Registered {
    sessions: Sessions,
    id: u64,
    user: UserId,
}

impl Sessions {
    /// An empty list of at most `max` sockets, and of so many of each person.
    pub(crate) fn new(max: usize, of_person: ConcurrencyLimit) -> Self {
        Self { open: Arc::default(), count: watch::Sender::new(0), max, of_person }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_limits(&self, open: &Open, caller: &Caller) -> Result<(), Error> {
        if open.sockets.len() >= self.max {
            return Err(Error::new(ErrorCode::Unavailable, "This node takes no more sockets."));
        }
        let ConcurrencyLimit(most) = self.of_person;
        if caller.is_admin || open.people.get(&caller.user).is_none_or(|ids| ids.len() < most) {
            return Ok(());
        }
        refusals("sockets").increment(1);
        let detail = format!("You have {most} sockets open here, the most that a person may have.");
        Err(Error { wait: Some(FULL_SECONDS), ..Error::new(ErrorCode::RateLimited, detail) })
    }

    /// Lists a socket of that person.
    ///
    /// # Errors
    /// Where the node has no room for it, or the person as many as may be. An admin may have any number.
    pub(crate) fn register(
        &self,
        id: u64,
        caller: &Caller,
        outbox: Arc<Outbox>,
    ) -> Result<Registered, Error> {
        let mut open = self.open();
        self.check_limits(&open, caller)?;
        open.sockets.insert(id, outbox);
        open.people.entry(caller.user.clone()).or_default().push(id);
        self.count.send_replace(open.sockets.len());
        Ok(Registered { sessions: self.clone(), id, user: caller.user.clone() })
    }

    /// Every open socket now.
    pub(crate) fn all(&self) -> Vec<Arc<Outbox>> {
        self.open().sockets.values().cloned().collect()
    }

    /// Every open socket of certain people now.
    pub(crate) fn of_all(&self, whom: impl Fn(&UserId) -> bool) -> Vec<Arc<Outbox>> {
        let open = self.open();
        let people = open.people.iter().filter(|(user, _)| whom(user));
        people.flat_map(|(_, ids)| ids).filter_map(|id| open.sockets.get(id).cloned()).collect()
    }

    /// Every open socket of a person now.
    pub(crate) fn of(&self, user: &UserId) -> Vec<(u64, Arc<Outbox>)> {
        let open = self.open();
        let ids = open.people.get(user).into_iter().flatten();
        ids.filter_map(|id| Some((*id, open.sockets.get(id)?.clone()))).collect()
    }

    /// Resolves when no socket is open any more.
    pub(crate) async fn empty(&self) {
        // The sender lives in self: waiting can't fail.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut open = self.sessions.open();
        open.sockets.remove(&self.id);
        if let Some(ids) = open.people.get_mut(&self.user) {
            ids.retain(|id| *id != self.id);
            if ids.is_empty() {
                open.people.remove(&self.user);
            }
        }
        self.sessions.count.send_replace(open.sockets.len());
    }
}
