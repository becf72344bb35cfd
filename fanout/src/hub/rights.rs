//! What ends a socket's right to be in a channel.
//!
//! api says by what right, and as of which event of the log. What must hold: a removal that comes
//! after that event ends it at once, and one that was lost on the way ends it at the next
//! confirmation, within a minute. What is older than the last narrowing never widens.

use std::{collections::VecDeque, time::Duration};

use protocol::{caller::Caller, id::UserId};
use tokio::time::Instant;

/// Between confirmations: with a try that fails and its repetition still within the minute.
const EVERY: Duration = Duration::from_secs(45);
/// Between tries while api can't confirm.
const AGAIN: Duration = Duration::from_secs(3);
/// A channel that became due so long ago is overdue: it was to be confirmed within the minute.
const OVERDUE: Duration = Duration::from_secs(15);
/// Removals that are remembered.
const REMEMBERED: usize = 256;

/// The rights of one channel.
pub(crate) struct Rights {
    /// Everyone may be here.
    public: bool,
    /// `public` counts in every event up to this one: an older answer changes nothing.
    known: u64,
    /// The last event by which fewer may be here.
    narrowed: u64,
    /// The newest removals.
    removals: VecDeque<(u64, UserId)>,
    /// Every removal and every narrowing after this is remembered.
    base: u64,
    /// Closed by this event or an earlier one.
    closed: Option<u64>,
    /// To be confirmed once this is in Postgres.
    due: Option<u64>,
    /// When api is asked next.
    next: Instant,
    /// When api was to be asked first, however often that failed since.
    wanted: Instant,
    asking: bool,
    /// Something became due while api was asked: its answer may not count that in.
    again: bool,
}

/// The place of a channel among those that api is to be asked about now: the lowest is asked about first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    /// Nothing has changed that may have ended a right: it is one of the confirmations of each minute.
    pub(crate) is_routine: bool,
    since: Instant,
}

/// What api has answered of a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// Everyone may be here.
    pub(crate) public: bool,
    /// Nobody may: the room is closed.
    pub(crate) closed: bool,
    /// The last event that is counted in.
    pub(crate) as_of: u64,
}

impl Rights {
    /// A channel that is heard from `began` on.
    pub(crate) fn new(began: u64) -> Self {
        Self {
            public: true,
            known: 0,
            narrowed: 0,
            removals: VecDeque::new(),
            base: began,
            closed: None,
            due: None,
            next: Instant::now() + EVERY,
            wanted: Instant::now() + EVERY,
            asking: false,
            again: false,
        }
    }

    /// Whether a right that was granted as of then is over already. No removal ends an admin's.
    pub(crate) fn is_over(&self, caller: &Caller, as_of: u64) -> bool {
        let mut since = self.removals.iter().filter(|(seq, _)| *seq > as_of);
        let removed = !caller.is_admin && since.any(|(_, removed)| *removed == caller.user);
        removed || self.closed.is_some_and(|seq| seq > as_of)
    }

    /// Someone is let in by that right.
    pub(crate) fn granted(&mut self, public: bool, as_of: u64) {
        self.learn(public, as_of);
        // Removals up to `needed` are not remembered, so a grant older than that must be confirmed.
        let needed = self.base.max(self.narrowed);
        let is_open_to_all = public && self.public && self.known >= needed;
        if as_of < needed && !is_open_to_all {
            self.confirm(needed);
        }
    }

    /// Takes over what is newer than what is known.
    fn learn(&mut self, public: bool, as_of: u64) {
        if as_of >= self.known {
            self.public = public;
            self.known = as_of;
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
    pub(crate) fn closed(&mut self, seq: u64) {
        self.closed = self.closed.max(Some(seq));
    }

    /// Not everyone who is here may stay: api has to be asked, once the event is in Postgres.
    pub(crate) fn narrowed(&mut self, seq: u64) {
        self.narrowed = self.narrowed.max(seq);
        self.learn(false, seq);
        self.confirm(seq);
    }

    /// Someone who is here goes on as another caller, with other rights.
    pub(crate) fn caller_changed(&mut self) {
        if !self.public {
            self.confirm(0);
        }
    }

    fn confirm(&mut self, seq: u64) {
        let now = Instant::now();
        self.due = self.due.max(Some(seq));
        // One that waits for its turn keeps it.
        self.next = self.next.min(now);
        self.wanted = self.wanted.min(now);
        self.again |= self.asking;
    }

    /// Whether api has to be asked about those who are here, now or later.
    pub(crate) fn needs_confirming(&self) -> bool {
        !self.public || self.due.is_some()
    }

    /// Whether the rights should have been confirmed by now, and were not.
    pub(crate) fn is_overdue(&self) -> bool {
        self.needs_confirming() && self.wanted.elapsed() >= OVERDUE
    }

    /// When api is to be asked now: before or after other channels. It is asked once at a time, and about an
    /// event only once that is in Postgres, as everything up to `applied` is.
    pub(crate) fn turn(&self, applied: u64) -> Option<Turn> {
        let is_applied = self.due.is_none_or(|seq| applied >= seq);
        let asks = self.needs_confirming() && is_applied && !self.asking && Instant::now() >= self.next;
        asks.then_some(Turn { is_routine: self.due.is_none(), since: self.next })
    }

    /// Begins to ask api, where that is to be done now; answers whether it is. [`Rights::asked`] takes what comes
    /// of it.
    pub(crate) fn ask(&mut self, applied: u64) -> bool {
        let asks = self.turn(applied).is_some();
        self.asking |= asks;
        asks
    }

    /// api has answered, or has not.
    pub(crate) fn asked(&mut self, answered: Option<Answered>) {
        self.asking = false;
        let again = std::mem::take(&mut self.again);
        match answered {
            Some(Answered { public, closed, as_of }) => {
                self.learn(public, as_of);
                if closed {
                    self.closed(as_of);
                }
                self.due = self.due.filter(|seq| again || *seq > as_of);
                self.next = match self.due {
                    Some(_) if again => Instant::now(),
                    Some(_) => Instant::now() + AGAIN,
                    None => Instant::now() + EVERY,
                };
                self.wanted = match self.due {
                    Some(_) => self.wanted,
                    None => self.next,
                };
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

    fn caller(id: &str) -> Caller {
        Caller { user: user(id), is_admin: false, org_id: None }
    }

    fn answered(public: bool, as_of: u64) -> Option<Answered> {
        Some(Answered { public, closed: false, as_of })
    }

    #[tokio::test(start_paused = true)]
    async fn narrowed_channel_has_its_turn_before_routine_confirmations_and_those_by_age() {
        let [mut first, mut second, mut narrowed] = [10, 10, 10].map(Rights::new);
        first.granted(false, 10);
        tokio::time::advance(AGAIN).await;
        second.next += AGAIN;
        second.granted(false, 10);
        tokio::time::advance(EVERY).await;
        narrowed.granted(true, 10);
        narrowed.narrowed(11);
        let turns = [&narrowed, &first, &second].map(|rights| rights.turn(11).expect("due"));
        assert!(turns.is_sorted(), "{turns:?}");
        assert_eq!(turns.map(|turn| turn.is_routine), [false, true, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn channel_keeps_its_turn_when_it_becomes_due_again() {
        let mut rights = Rights::new(10);
        rights.narrowed(11);
        let turn = rights.turn(11);
        tokio::time::advance(AGAIN).await;
        rights.narrowed(12);
        assert_eq!(rights.turn(12), turn);
    }

    #[tokio::test(start_paused = true)]
    async fn channel_is_overdue_until_api_answers_however_often_it_is_asked() {
        let mut rights = Rights::new(10);
        rights.narrowed(11);
        tokio::time::advance(OVERDUE / 2).await;
        assert!(rights.ask(11) && !rights.is_overdue());
        rights.asked(None);
        tokio::time::advance(OVERDUE / 2).await;
        assert!(rights.is_overdue());
        assert!(rights.ask(11));
        rights.asked(answered(false, 11));
        assert!(!rights.is_overdue());
        tokio::time::advance(EVERY + OVERDUE).await;
        assert!(rights.is_overdue(), "nobody asked");
    }

    #[tokio::test(start_paused = true)]
    async fn a_removal_after_the_grant_ends_it() {
        let mut rights = Rights::new(10);
        rights.removed(12, user("bob"));
        assert!(rights.is_over(&caller("bob"), 11));
        assert!(!rights.is_over(&caller("bob"), 12), "added again since");
        assert!(!rights.is_over(&caller("ann"), 11));
        assert!(
            !rights.is_over(&Caller { is_admin: true, ..caller("bob") }, 11),
            "an admin needs no membership"
        );
        rights.closed(20);
        assert!(rights.is_over(&caller("ann"), 19));
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_from_before_the_beginning_is_confirmed_at_once() {
        let mut rights = Rights::new(10);
        rights.granted(false, 9);
        assert!(!rights.ask(9), "not applied yet");
        assert!(rights.ask(10));
        assert!(!rights.ask(10), "once at a time");
        rights.asked(answered(false, 10));
        assert!(!rights.ask(10));
        tokio::time::advance(EVERY).await;
        assert!(rights.ask(10), "the minute's confirmation");
        rights.asked(None);
        assert!(!rights.ask(10));
        tokio::time::advance(AGAIN).await;
        assert!(rights.ask(10), "asked again where api did not answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_public_room_is_confirmed_where_its_grant_is_older_than_its_beginning() {
        let mut rights = Rights::new(10);
        rights.granted(true, 9);
        assert!(rights.ask(10), "it may have been closed or made private by the tenth event");
        rights.asked(answered(true, 10));
        rights.granted(true, 9);
        tokio::time::advance(EVERY * 2).await;
        assert!(!rights.ask(100), "everything since was heard");
    }

    #[tokio::test(start_paused = true)]
    async fn a_public_room_asks_nobody_until_it_is_made_private() {
        let mut rights = Rights::new(10);
        rights.granted(true, 10);
        tokio::time::advance(EVERY * 2).await;
        assert!(!rights.ask(100));
        rights.caller_changed();
        assert!(!rights.ask(100));
        rights.narrowed(101);
        assert!(!rights.ask(100));
        assert!(rights.ask(101));
    }

    #[tokio::test(start_paused = true)]
    async fn a_public_grant_older_than_the_narrowing_is_confirmed_and_does_not_widen() {
        let mut rights = Rights::new(10);
        rights.narrowed(20);
        assert!(rights.ask(20));
        rights.asked(answered(false, 25));
        rights.granted(true, 15);
        assert!(rights.ask(25), "whoever came by it may not be here");
        rights.asked(answered(false, 25));
        tokio::time::advance(EVERY).await;
        assert!(rights.ask(25), "the room is still private");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_older_than_the_narrowing_does_not_widen() {
        let mut rights = Rights::new(10);
        rights.granted(false, 10);
        tokio::time::advance(EVERY).await;
        assert!(rights.ask(10));
        rights.narrowed(20);
        rights.asked(answered(true, 19));
        assert!(rights.ask(20));
        rights.asked(answered(false, 20));
        tokio::time::advance(EVERY).await;
        assert!(rights.ask(20), "the room is still private");
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_answer_widens() {
        let mut rights = Rights::new(10);
        rights.narrowed(20);
        rights.granted(true, 21);
        assert!(rights.ask(21));
        rights.asked(answered(true, 21));
        tokio::time::advance(EVERY * 2).await;
        assert!(!rights.ask(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_closed_before_its_beginning_takes_nobody_once_that_is_known() {
        let mut rights = Rights::new(10);
        rights.granted(true, 8);
        assert!(rights.ask(10));
        rights.asked(Some(Answered { public: true, closed: true, as_of: 12 }));
        assert!(rights.is_over(&caller("ann"), 8));
    }

    #[tokio::test(start_paused = true)]
    async fn what_becomes_due_while_api_is_asked_is_asked_afterwards() {
        let mut rights = Rights::new(10);
        rights.granted(false, 10);
        tokio::time::advance(EVERY).await;
        let changes: [fn(&mut Rights); 2] = [Rights::caller_changed, |rights| rights.granted(false, 9)];
        for change in changes {
            assert!(rights.ask(12));
            change(&mut rights);
            rights.asked(answered(false, 12));
            assert!(rights.ask(12), "whoever was asked about was another, or fewer");
            rights.asked(answered(false, 12));
            assert!(!rights.ask(12));
            tokio::time::advance(EVERY).await;
        }
    }
}
