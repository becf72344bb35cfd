//! Tracks one person in one place: their sockets, what the log has of them, and what is to be appended next.
//!
//! What must hold: no leave is said while a socket is open, nor within [`LEAVE_GRACE`] after the last one closed,
//! unless the person asked to leave.

use std::time::Duration;

use tokio::time::Instant;

/// A person whose last socket closed still counts as present that long: a reload is no leave.
pub(super) const LEAVE_GRACE: Duration = Duration::from_secs(5);

/// One person in one place.
#[derive(Default)]
pub(super) struct PresenceEntry {
    sockets: usize,
    /// The last socket closed, and the person counts as present until then.
    grace_until: Option<Instant>,
    /// A task waits for the end of the grace: there is one at most.
    pub(super) has_grace_timer: bool,
    pub(super) published: Published,
    /// They are in their shard's queue, or a request about them is under way.
    pub(super) queued: bool,
}

/// What the log knows of a person, and by which incarnation's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Published {
    /// That they are not here, if it ever knew of them.
    #[default]
    Absent,
    /// That they are here.
    Present(u64),
    /// The one or the other: the last word was not acknowledged.
    Unknown(u64),
}

/// What the log has to be told of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    Join,
    Leave,
    /// Nothing now: the log knows, or it is not known yet whether they come back.
    Nothing,
}

impl PresenceEntry {
    /// A socket of the person is there now.
    pub(super) fn enter(&mut self) {
        self.sockets += 1;
        self.grace_until = None;
    }

    /// A socket has left by its own word, or because it had to.
    pub(super) fn leave(&mut self) {
        self.sockets = self.sockets.saturating_sub(1);
        self.grace_until = None;
    }

    /// Every socket has left.
    pub(super) fn leave_all(&mut self) {
        self.sockets = 0;
        self.grace_until = None;
    }

    /// A socket was closed. True where a task has to be started that waits for the end of the grace.
    pub(super) fn socket_closed(&mut self, now: Instant) -> bool {
        self.sockets = self.sockets.saturating_sub(1);
        if self.sockets > 0 {
            return false;
        }
        self.grace_until = Some(now + LEAVE_GRACE);
        !std::mem::replace(&mut self.has_grace_timer, true)
    }

    /// When the grace ends. `None` where there is none, or it is over.
    pub(super) fn grace_end(&self, now: Instant) -> Option<Instant> {
        self.grace_until.filter(|end| *end > now)
    }

    /// What the log has to be told, by a node of that incarnation.
    pub(super) fn pending(&self, incarnation: u64, now: Instant) -> Pending {
        match self.published {
            Published::Present(by) if by == incarnation && self.sockets > 0 => Pending::Nothing,
            _ if self.sockets > 0 => Pending::Join,
            Published::Absent => Pending::Nothing,
            _ if self.grace_end(now).is_some() => Pending::Nothing,
            _ => Pending::Leave,
        }
    }

    /// Nothing about them has to be remembered any more.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        self.sockets == 0
            && self.published == Published::Absent
            && !self.has_grace_timer
            && self.grace_end(now).is_none()
    }
}
