//! The people who are in rooms on this node, and what the log was told of them.
//!
//! What must hold: however many sockets a person has in a room here, the log hears one join and
//! one leave, in that order; what it was told follows what is true until it has caught up. The
//! counter is the node's own and only rises, so a late word never wins over a newer one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use shared::{
    id::{RoomId, UserId},
    metric_names as names,
    rpc::{PresenceRequest, expiry},
};
use tokio::sync::watch;

use crate::ask::Ask;

/// A person whose last socket closed is still in the room that long: a reload is no leave.
const GRACE: Duration = Duration::from_secs(5);
/// Between tries to tell the log.
const AGAIN: Duration = Duration::from_millis(500);
/// Tries before it is given up: the node's heartbeat settles what is left.
const TRIES: u32 = 120;

/// A node's people in rooms.
#[derive(Clone)]
pub(crate) struct Presence {
    people: Arc<Mutex<HashMap<(RoomId, UserId), Here>>>,
    /// How many the log was told are here.
    told: watch::Sender<usize>,
    counter: Arc<AtomicU64>,
    incarnation: u64,
    ask: Ask,
}

#[derive(Default)]
struct Here {
    sockets: usize,
    /// What the log was told last.
    told: bool,
    /// Someone is telling it.
    telling: bool,
}

impl Presence {
    /// Nobody is here yet.
    pub(crate) fn new(ask: Ask, incarnation: u64) -> Self {
        Self {
            people: Arc::default(),
            told: watch::Sender::new(0),
            counter: Arc::default(),
            incarnation,
            ask,
        }
    }

    fn people(&self) -> MutexGuard<'_, HashMap<(RoomId, UserId), Here>> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket of the person is in the room now.
    pub(crate) fn enter(&self, room: RoomId, user: UserId) {
        self.people().entry((room, user.clone())).or_default().sockets += 1;
        self.settle(room, user);
    }

    /// A socket of the person has left the room, by its own word.
    pub(crate) fn leave(&self, room: RoomId, user: UserId) {
        if let Some(here) = self.people().get_mut(&(room, user.clone())) {
            here.sockets = here.sockets.saturating_sub(1);
        }
        self.settle(room, user);
    }

    /// A socket of the person was closed: they may come back.
    pub(crate) fn lose(&self, room: RoomId, user: UserId) {
        if let Some(here) = self.people().get_mut(&(room, user.clone())) {
            here.sockets = here.sockets.saturating_sub(1);
        }
        let this = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            this.settle(room, user);
        });
    }

    /// The node stops: everyone it holds leaves without grace. Resolves when the log knows.
    pub(crate) async fn leave_all(&self) {
        let here: Vec<_> = self.people().keys().cloned().collect();
        for (room, user) in here {
            if let Some(here) = self.people().get_mut(&(room, user.clone())) {
                here.sockets = 0;
            }
            self.settle(room, user);
        }
        // The sender lives in self: waiting can't fail.
        let _ = self.told.subscribe().wait_for(|told| *told == 0).await;
    }

    /// Tells the log what is true of the person, until it knows.
    fn settle(&self, room: RoomId, user: UserId) {
        let key = (room, user);
        {
            let mut people = self.people();
            let Some(here) = people.get_mut(&key) else { return };
            if here.telling {
                return;
            }
            here.telling = true;
        }
        let this = self.clone();
        tokio::spawn(async move {
            let mut tries = 0;
            while let Some(joined) = this.untold(&key) {
                let request = PresenceRequest {
                    room: Some(key.0),
                    user: key.1.clone(),
                    joined,
                    incarnation: this.incarnation,
                    counter: this.counter.fetch_add(1, Ordering::Relaxed) + 1,
                    expires_at: expiry(),
                };
                match this.ask.presence(&request).await {
                    Ok(()) => this.tell(&key, joined),
                    Err(error) => {
                        tracing::warn!(%error, room = %key.0, "the log was not told who is here");
                        tries += 1;
                        if tries == TRIES {
                            this.tell(&key, joined);
                            metrics::counter!(names::PRESENCE_ABANDONED_TOTAL).increment(1);
                        }
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        });
    }

    /// What the log has to be told next; where nothing, whoever tells is done.
    fn untold(&self, key: &(RoomId, UserId)) -> Option<bool> {
        let mut people = self.people();
        let here = people.get_mut(key)?;
        let present = here.sockets > 0;
        if present != here.told {
            return Some(present);
        }
        here.telling = false;
        if !present {
            people.remove(key);
        }
        None
    }

    fn tell(&self, key: &(RoomId, UserId), joined: bool) {
        if let Some(here) = self.people().get_mut(key) {
            here.told = joined;
            self.told.send_modify(|told| {
                *told = if joined { *told + 1 } else { told.saturating_sub(1) };
            });
            if joined {
                metrics::gauge!(names::PARTICIPANTS).increment(1.0);
            } else {
                metrics::gauge!(names::PARTICIPANTS).decrement(1.0);
            }
        }
    }
}
