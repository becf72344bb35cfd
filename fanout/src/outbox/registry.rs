//! Registers the node's open sockets: a drain closes all of them, and what concerns a person is pushed to all of the
//! person's sockets, whichever channels they follow.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use protocol::{
    caller::Caller,
    error::{Error, ErrorCode},
    id::UserId,
};
use service::rate::{ConcurrencyLimit, refusals};
use tokio::sync::watch;

use super::Outbox;

/// Seconds after which a person with too many sockets may try again. A half-open socket is closed within a minute.
const RETRY_AFTER_SECS: u32 = 10;

/// The node's open sockets.
#[derive(Clone, Debug)]
pub(crate) struct SocketRegistry {
    open: Arc<Mutex<RegistryState>>,
    count: watch::Sender<usize>,
    max: usize,
    sockets_per_person: ConcurrencyLimit,
}

#[derive(Debug, Default)]
struct RegistryState {
    sockets: HashMap<u64, Arc<Outbox>>,
    people: HashMap<UserId, Vec<u64>>,
    /// Sockets that were opened with an admin's token, which the limit per person does not count.
    opened_as_admin: HashSet<u64>,
}

/// The registration of an open socket, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketRegistration {
    registry: SocketRegistry,
    socket_id: u64,
    user: UserId,
}

impl SocketRegistry {
    /// Creates an empty registry for at most `max` sockets, and at most `of_person` of each person.
    pub(crate) fn new(max: usize, of_person: ConcurrencyLimit) -> Self {
        Self { open: Arc::default(), count: watch::Sender::new(0), max, sockets_per_person: of_person }
    }

    fn open(&self) -> MutexGuard<'_, RegistryState> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_limits(&self, open: &RegistryState, caller: &Caller) -> Result<(), Error> {
        if open.sockets.len() >= self.max {
            return Err(Error::new(ErrorCode::Unavailable, "This node takes no more sockets."));
        }
        let ConcurrencyLimit(most) = self.sockets_per_person;
        let ids = open.people.get(&caller.user).into_iter().flatten();
        let counted = ids.filter(|id| !open.opened_as_admin.contains(id)).take(most);
        if caller.is_admin || counted.count() < most {
            return Ok(());
        }
        refusals("sockets").increment(1);
        let detail = format!("You have {most} sockets open on this node, the maximum for a person.");
        Err(Error { wait: Some(RETRY_AFTER_SECS), ..Error::new(ErrorCode::RateLimited, detail) })
    }

    /// Registers a socket of `caller`.
    ///
    /// # Errors
    /// 503 if the node has the maximum of sockets, 429 if the person has. The latter does not count sockets of admins.
    pub(crate) fn register(
        &self,
        id: u64,
        caller: &Caller,
        outbox: Arc<Outbox>,
    ) -> Result<SocketRegistration, Error> {
        let mut open = self.open();
        self.check_limits(&open, caller)?;
        open.sockets.insert(id, outbox);
        open.people.entry(caller.user.clone()).or_default().push(id);
        if caller.is_admin {
            open.opened_as_admin.insert(id);
        }
        self.count.send_replace(open.sockets.len());
        Ok(SocketRegistration { registry: self.clone(), socket_id: id, user: caller.user.clone() })
    }

    /// All open sockets.
    pub(crate) fn all(&self) -> Vec<Arc<Outbox>> {
        self.open().sockets.values().cloned().collect()
    }

    /// All open sockets of the people for whom `is_wanted` is true.
    pub(crate) fn of_people(&self, is_wanted: impl Fn(&UserId) -> bool) -> Vec<Arc<Outbox>> {
        let open = self.open();
        let people = open.people.iter().filter(|(user, _)| is_wanted(user));
        people.flat_map(|(_, ids)| ids).filter_map(|id| open.sockets.get(id).cloned()).collect()
    }

    /// All open sockets of a person, with their numbers.
    pub(crate) fn of_person(&self, user: &UserId) -> Vec<(u64, Arc<Outbox>)> {
        let open = self.open();
        let ids = open.people.get(user).into_iter().flatten();
        ids.filter_map(|id| Some((*id, open.sockets.get(id)?.clone()))).collect()
    }

    /// Resolves when no socket is open.
    pub(crate) async fn wait_until_empty(&self) {
        // The sender lives in self: waiting can't fail.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for SocketRegistration {
    fn drop(&mut self) {
        let mut open = self.registry.open();
        open.sockets.remove(&self.socket_id);
        open.opened_as_admin.remove(&self.socket_id);
        if let Some(ids) = open.people.get_mut(&self.user) {
            ids.retain(|id| *id != self.socket_id);
            if ids.is_empty() {
                open.people.remove(&self.user);
            }
        }
        self.registry.count.send_replace(open.sockets.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench, encode::PushFormat};

    #[test]
    fn sockets_of_an_admin_leave_their_own_ordinary_sockets_their_number() {
        let registry = SocketRegistry::new(100, ConcurrencyLimit(2));
        let ordinary = bench::caller(1);
        let admin = Caller { is_admin: true, ..ordinary.clone() };
        let register =
            |id, caller| registry.register(id, caller, Arc::new(Outbox::new(1_000, PushFormat::Native)));
        let admins: Vec<_> = (0..3).map(|id| register(id, &admin).expect("not counted")).collect();
        let first = register(3, &ordinary).expect("the first");
        let _second = register(4, &ordinary).expect("the second");
        assert_eq!(register(5, &ordinary).expect_err("the third").code, ErrorCode::RateLimited);
        drop(admins);
        assert!(register(6, &ordinary).is_err(), "ending an admin's socket frees no place");
        drop(first);
        register(7, &ordinary).expect("in place of the first");
    }
}
