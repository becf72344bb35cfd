//! Tracks one person at one place: their open sockets, what the log has about them, and what to append next.
//!
//! What the log has about the person ([`Published`]):
//!
//! ```text
//!                    join +
//!      +--------+ ------------> +---------+
//!      | Absent |    leave +    | Present |
//!      +--------+ <------------ +---------+
//!        |    ^                   |    ^
//! join ? |    | leave +   leave ? |    | join +
//!        v    |                   v    |
//!      +---------------------------------+
//!      |             Unknown             | <--- join ?, leave ?
//!      +---------------------------------+
//!
//! +  api acknowledged the change, or refused it for good
//! ?  no acknowledgement: the change may be stored, or may still be stored later
//! ```
//!
//! `Present` and `Unknown` of an earlier incarnation become `Absent`. What to append next ([`Pending`]):
//!
//! ```text
//! open sockets   what the log has                    append
//! 1 or more      Present, by this incarnation        nothing
//! 1 or more      anything else                       join
//! none           Absent                              nothing
//! none           anything else, during the grace     nothing
//! none           anything else, without a grace      leave
//! ```
//!
//! A grace begins when the last socket closes, and lasts [`LEAVE_GRACE`]. It ends early when a socket enters or leaves.
//!
//! What must hold: no leave is appended while a socket is open, nor within [`LEAVE_GRACE`] after the last one closed,
//! unless a socket left: on request, because its right ended, or because the node drains.

use std::time::Duration;

use tokio::time::Instant;

/// How long a person counts as present after their last socket closed, so that reloading a page is not a leave.
pub(super) const LEAVE_GRACE: Duration = Duration::from_secs(5);

/// One person at one place.
#[derive(Default)]
pub(super) struct PresenceEntry {
    sockets: usize,
    /// When the grace ends, if the last socket has closed.
    grace_until: Option<Instant>,
    /// Whether a task waits for the end of the grace: at most one does.
    pub(super) has_grace_timer: bool,
    pub(super) published: Published,
    /// Whether the person is in their shard's queue, or a request about them is under way.
    pub(super) queued: bool,
}

/// What the log has about a person, with the incarnation that appended it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Published {
    /// A leave, or nothing.
    #[default]
    Absent,
    /// A join.
    Present(u64),
    /// Either: the last change was not acknowledged.
    Unknown(u64),
}

/// The change to append next about a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    Join,
    Leave,
    /// No change now: the log is up to date, or the grace is not over.
    Nothing,
}

impl PresenceEntry {
    /// Counts a socket that the person has opened.
    pub(super) fn enter(&mut self) {
        self.sockets += 1;
        self.grace_until = None;
    }

    /// Removes a socket that has left on request, or because its right ended: without a grace.
    pub(super) fn leave(&mut self) {
        self.sockets = self.sockets.saturating_sub(1);
        self.grace_until = None;
    }

    /// Removes all sockets, without a grace.
    pub(super) fn leave_all(&mut self) {
        self.sockets = 0;
        self.grace_until = None;
    }

    /// Removes a socket that was closed; the grace begins if it was the last. True if the caller must start a task that
    /// waits for the end of the grace.
    pub(super) fn socket_closed(&mut self, now: Instant) -> bool {
        self.sockets = self.sockets.saturating_sub(1);
        if self.sockets > 0 {
            return false;
        }
        self.grace_until = Some(now + LEAVE_GRACE);
        !std::mem::replace(&mut self.has_grace_timer, true)
    }

    /// When the grace ends; `None` if there is none or it is over.
    pub(super) fn grace_end(&self, now: Instant) -> Option<Instant> {
        self.grace_until.filter(|end| *end > now)
    }

    /// The change that a node with this incarnation has to append next.
    pub(super) fn pending(&self, incarnation: u64, now: Instant) -> Pending {
        match self.published {
            Published::Present(by) if by == incarnation && self.sockets > 0 => Pending::Nothing,
            _ if self.sockets > 0 => Pending::Join,
            Published::Absent => Pending::Nothing,
            _ if self.grace_end(now).is_some() => Pending::Nothing,
            _ => Pending::Leave,
        }
    }

    /// Whether the entry may be dropped.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        self.sockets == 0
            && self.published == Published::Absent
            && !self.has_grace_timer
            && self.grace_end(now).is_none()
    }
}
