//! All sockets of the node, so that a drain reaches each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::session::outbox::Outbox;

/// The node's open sockets.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    open: Arc<Mutex<HashMap<u64, Arc<Outbox>>>>,
    count: watch::Sender<usize>,
    max: usize,
}

/// One open socket; it is gone from the list when this is dropped.
#[derive(Debug)]
pub(crate) struct Registered {
    sessions: Sessions,
    id: u64,
}

impl Sessions {
    /// An empty list of at most `max` sockets.
    pub(crate) fn new(max: usize) -> Self {
        Self { open: Arc::default(), count: watch::Sender::new(0), max }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Outbox>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more socket may open.
    pub(crate) fn has_room(&self) -> bool {
        self.open().len() < self.max
    }

    /// Lists a socket.
    pub(crate) fn register(&self, id: u64, outbox: Arc<Outbox>) -> Registered {
        let mut open = self.open();
        open.insert(id, outbox);
        self.count.send_replace(open.len());
        Registered { sessions: self.clone(), id }
    }

    /// Every open socket now.
    pub(crate) fn all(&self) -> Vec<Arc<Outbox>> {
        self.open().values().cloned().collect()
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
        open.remove(&self.id);
        self.sessions.count.send_replace(open.len());
    }
}
