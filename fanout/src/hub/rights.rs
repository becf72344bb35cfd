//! What ends a socket's right to be in a room.
//!
//! api says by what right, and as of which event of the log. What must hold: a removal that comes
//! after that event ends it at once, and one that was lost on the way ends it at the next
//! confirmation, within a minute.

use std::{collections::VecDeque, time::Duration};

use shared::id::UserId;
use tokio::time::Instant;

/// Between confirmations: with a try that fails and its repetition still within the minute.
const EVERY: Duration = Duration::from_secs(45);
/// Between tries while api can't confirm.
const AGAIN: Duration = Duration::from_secs(3);
/// Removals that are remembered.
const REMEMBERED: usize = 256;

/// The rights of one channel.
pub(crate) struct Rights {
    /// Everyone may be here.
    public: bool,
    /// The newest removals.
    removals: VecDeque<(u64, UserId)>,
    /// Every removal after this is remembered.
    base: u64,
    /// Closed by this event.
    closed: Option<u64>,
    /// To be confirmed once this is in Postgres.
    due: Option<u64>,
    next: Instant,
    asking: bool,
}

impl Rights {
    /// A channel that is heard from `began` on.
    pub(crate) fn new(began: u64) -> Self {
        Self {
            public: true,
            removals: VecDeque::new(),
            base: began,
            closed: None,
            due: None,
            next: Instant::now() + EVERY,
            asking: false,
        }
    }

    /// Whether a right that was granted as of then is over already.
    pub(crate) fn is_over(&self, user: &UserId, as_of: u64) -> bool {
        let removed = self.removals.iter().any(|(seq, removed)| *seq > as_of && removed == user);
        removed || self.closed.is_some_and(|seq| seq > as_of)
    }

    /// Someone is let in by that right.
    pub(crate) fn granted(&mut self, public: bool, as_of: u64) {
        self.public = public;
        if !public && as_of < self.base {
            // What came between was heard by nobody here.
            self.confirm(self.base);
        }
    }

    /// A person was removed.
    pub(crate) fn removed(&mut self, seq: u64, user: UserId) {
        self.removals.push_back((seq, user));
        if self.removals.len() > REMEMBERED
            && let Some((seq, _)) = self.removals.pop_front()
        {
            self.base = seq;
        }
    }

    /// The room was closed.
    pub(crate) const fn closed(&mut self, seq: u64) {
        self.closed = Some(seq);
    }

    /// Not everyone who is here may stay: api has to be asked, once the event is in Postgres.
    pub(crate) fn narrowed(&mut self, seq: u64) {
        self.public = false;
        self.confirm(seq);
    }

    fn confirm(&mut self, seq: u64) {
        self.due = self.due.max(Some(seq));
        self.next = Instant::now();
    }

    /// Whether api is to be asked now. It is asked once at a time.
    pub(crate) fn ask(&mut self, applied: u64) -> bool {
        let is_due = match self.due {
            Some(seq) => applied >= seq,
            None => !self.public,
        };
        let ask = is_due && !self.asking && Instant::now() >= self.next;
        self.asking |= ask;
        ask
    }

    /// api has answered as of an event, or has not.
    pub(crate) fn asked(&mut self, answered: Option<(bool, u64)>) {
        self.asking = false;
        match answered {
            Some((public, as_of)) => {
                self.public = public;
                self.due = self.due.filter(|seq| *seq > as_of);
                self.next = Instant::now() + if self.due.is_some() { AGAIN } else { EVERY };
            }
            None => self.next = Instant::now() + AGAIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> UserId {
        id.parse().expect("an id")
    }

    #[tokio::test(start_paused = true)]
    async fn a_removal_after_the_grant_ends_it() {
        let mut rights = Rights::new(10);
        rights.removed(12, user("bob"));
        assert!(rights.is_over(&user("bob"), 11));
        assert!(!rights.is_over(&user("bob"), 12), "added again since");
        assert!(!rights.is_over(&user("ann"), 11));
        rights.closed(20);
        assert!(rights.is_over(&user("ann"), 19));
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_from_before_the_beginning_is_confirmed_at_once() {
        let mut rights = Rights::new(10);
        rights.granted(false, 9);
        assert!(!rights.ask(9), "not applied yet");
        assert!(rights.ask(10));
        assert!(!rights.ask(10), "once at a time");
        rights.asked(Some((false, 10)));
        assert!(!rights.ask(10));
        tokio::time::advance(EVERY).await;
        assert!(rights.ask(10), "the minute's confirmation");
        rights.asked(None);
        assert!(!rights.ask(10));
        tokio::time::advance(AGAIN).await;
        assert!(rights.ask(10), "asked again where api did not answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_public_room_asks_nobody() {
        let mut rights = Rights::new(10);
        rights.granted(true, 5);
        tokio::time::advance(EVERY * 2).await;
        assert!(!rights.ask(100));
        rights.narrowed(101);
        assert!(!rights.ask(100));
        assert!(rights.ask(101));
    }
}
