//! Tracks what ends the right of sockets to follow one channel.
//!
//! api grants a right as of an event of the log. What must hold: a removal after that event ends the right at once; a
//! removal whose live copy was lost ends it at the next confirmation by api, within a minute. An answer of api that is
//! older than the last event that took rights away gives none back.

use std::{collections::VecDeque, time::Duration};

use protocol::{caller::Caller, id::UserId};
use service::random;
use tokio::time::Instant;

/// Maximum interval between confirmations: a failed one and its repetition still fit into the minute.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(45);
/// How much earlier api may be asked about a channel, if it is asked about others at that time.
const CONFIRM_EARLY: Duration = Duration::from_secs(5);
/// Pause between attempts while api can't confirm.
const RETRY_INTERVAL: Duration = Duration::from_secs(3);
/// A channel whose confirmation is due since so long is overdue: it was to be confirmed within the minute.
const OVERDUE_AFTER: Duration = Duration::from_secs(15);
/// Maximum removals that are remembered.
const REMOVALS_MAX: usize = 256;

/// Decides whose sockets may stay subscribed to one channel, by events and by what api last confirmed.
pub(crate) struct ChannelAccess {
    /// Everyone may follow the channel.
    is_public: bool,
    /// `is_public` counts in every event up to this one: an older answer changes nothing.
    public_as_of: u64,
    /// The last event by which fewer people may follow the channel.
    narrowed_at: u64,
    /// The newest removals.
    removals: VecDeque<(u64, UserId)>,
    /// Every removal and every narrowing after this is remembered.
    complete_after: u64,
    /// The room was closed by this event or an earlier one.
    closed_at: Option<u64>,
    /// To be confirmed once this is in Postgres.
    due_after_seq: Option<u64>,
    /// When the next confirmation is requested from api.
    next_confirm_at: Instant,
    /// When api was to be asked first, however many requests have failed since.
    due_since: Instant,
    is_confirming: bool,
    /// A confirmation became due while another was under way, whose answer may not include the cause.
    is_due_again: bool,
}

/// The priority of a channel among those that api is to be asked about now: the lowest is asked about first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConfirmPriority {
    /// Nothing has changed that may have ended a right: it is one of the confirmations of each minute.
    pub(crate) is_routine: bool,
    /// It is not due yet: api is asked now only if it is asked about other channels.
    pub(crate) is_early: bool,
    due_since: Instant,
}

/// The answer of api about a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccessAnswer {
    /// Everyone may follow the channel.
    pub(crate) is_public: bool,
    /// The room is closed, so nobody may follow the channel.
    pub(crate) is_closed: bool,
    /// The last event that is counted in.
    pub(crate) as_of: u64,
}

impl ChannelAccess {
    /// A channel whose events are received from `start_seq` on.
    pub(crate) fn new(start_seq: u64) -> Self {
        // Channels that are opened together, as after a restart, are not confirmed together.
        let first = Instant::now() + random::jittered(CONFIRM_INTERVAL, 0.5..1.0);
        Self {
            is_public: true,
            public_as_of: 0,
            narrowed_at: 0,
            removals: VecDeque::new(),
            complete_after: start_seq,
            closed_at: None,
            due_after_seq: None,
            next_confirm_at: first,
            due_since: first,
            is_confirming: false,
            is_due_again: false,
        }
    }

    /// Whether a right that was granted as of then is over already. No removal ends an admin's.
    pub(crate) fn is_revoked(&self, caller: &Caller, as_of: u64) -> bool {
        let mut later_removals = self.removals.iter().filter(|(seq, _)| *seq > as_of);
        let is_removed = !caller.is_admin && later_removals.any(|(_, user)| *user == caller.user);
        is_removed || self.closed_at.is_some_and(|seq| seq > as_of)
    }

    /// Notes that a socket was admitted by a grant.
    pub(crate) fn note_grant(&mut self, public: bool, as_of: u64) {
        self.update_public(public, as_of);
        // Removals up to `needed` are not remembered, so a grant older than that must be confirmed.
        let needed = self.complete_after.max(self.narrowed_at);
        let is_open_to_all = public && self.is_public && self.public_as_of >= needed;
        if as_of < needed && !is_open_to_all {
            self.schedule_confirmation(needed);
        }
    }

    /// Applies an answer, unless a newer one is known.
    fn update_public(&mut self, public: bool, as_of: u64) {
        if as_of >= self.public_as_of {
            self.is_public = public;
            self.public_as_of = as_of;
        }
    }

    /// Notes that a person was removed.
    pub(crate) fn note_removal(&mut self, seq: u64, user: UserId) {
        self.removals.push_back((seq, user));
        if self.removals.len() > REMOVALS_MAX
            && let Some((seq, _)) = self.removals.pop_front()
        {
            self.complete_after = seq;
        }
    }

    /// Notes that the room was closed.
    pub(crate) fn note_closing(&mut self, seq: u64) {
        self.closed_at = self.closed_at.max(Some(seq));
    }

    /// Notes that an event took rights away: api has to be asked which subscribers may stay, once the event is in
    /// Postgres.
    pub(crate) fn note_narrowing(&mut self, seq: u64) {
        self.narrowed_at = self.narrowed_at.max(seq);
        self.update_public(false, seq);
        self.schedule_confirmation(seq);
    }

    /// Notes that the caller of a socket in the channel was changed to one with other rights.
    pub(crate) fn note_caller_change(&mut self) {
        if !self.is_public {
            self.schedule_confirmation(0);
        }
    }

    fn schedule_confirmation(&mut self, seq: u64) {
        let now = Instant::now();
        self.due_after_seq = self.due_after_seq.max(Some(seq));
        // One that waits for its turn keeps it.
        self.next_confirm_at = self.next_confirm_at.min(now);
        self.due_since = self.due_since.min(now);
        self.is_due_again |= self.is_confirming;
    }

    /// Whether api has to be asked about the subscribers, now or later.
    pub(crate) fn needs_confirming(&self) -> bool {
        !self.is_public || self.due_after_seq.is_some()
    }

    /// Whether the rights should have been confirmed by now, and were not.
    pub(crate) fn is_overdue(&self) -> bool {
        self.needs_confirming() && self.due_since.elapsed() >= OVERDUE_AFTER
    }

    /// Whether api may be asked now, and before or after which other channels. It is asked once at a time, and about
    /// an event only once that is in Postgres, as everything up to `applied` is.
    pub(crate) fn confirm_priority(&self, applied: u64) -> Option<ConfirmPriority> {
        let is_applied = self.due_after_seq.is_none_or(|seq| applied >= seq);
        let is_due = self.needs_confirming()
            && is_applied
            && !self.is_confirming
            && Instant::now() >= self.may_confirm_from();
        is_due.then_some(ConfirmPriority {
            is_routine: self.due_after_seq.is_none(),
            is_early: Instant::now() < self.next_confirm_at,
            due_since: self.next_confirm_at,
        })
    }

    /// From when on api may be asked about the channel together with others: early for a routine confirmation, unless
    /// it has failed and is repeated.
    fn may_confirm_from(&self) -> Instant {
        let is_first_attempt = self.due_since == self.next_confirm_at;
        let is_early_allowed = self.due_after_seq.is_none() && is_first_attempt;
        self.next_confirm_at - if is_early_allowed { CONFIRM_EARLY } else { Duration::ZERO }
    }

    /// Begins a confirmation by api if one is due now, and returns whether it did. The result goes to
    /// [`ChannelAccess::finish_confirmation`].
    pub(crate) fn start_confirmation(&mut self, applied: u64) -> bool {
        let is_due = self.confirm_priority(applied).is_some();
        self.is_confirming |= is_due;
        is_due
    }

    /// Takes the answer of api. `None` if api has not answered.
    pub(crate) fn finish_confirmation(&mut self, answer: Option<AccessAnswer>) {
        self.is_confirming = false;
        let is_due_again = std::mem::take(&mut self.is_due_again);
        match answer {
            Some(AccessAnswer { is_public: public, is_closed: closed, as_of }) => {
                self.update_public(public, as_of);
                if closed {
                    self.note_closing(as_of);
                }
                self.due_after_seq = self.due_after_seq.filter(|seq| is_due_again || *seq > as_of);
                self.next_confirm_at = match self.due_after_seq {
                    Some(_) if is_due_again => Instant::now(),
                    Some(_) => Instant::now() + RETRY_INTERVAL,
                    None => Instant::now() + CONFIRM_INTERVAL,
                };
                self.due_since = match self.due_after_seq {
                    Some(_) => self.due_since,
                    None => self.next_confirm_at,
                };
            }
            None => self.next_confirm_at = Instant::now() + RETRY_INTERVAL,
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

    fn answer(public: bool, as_of: u64) -> Option<AccessAnswer> {
        Some(AccessAnswer { is_public: public, is_closed: false, as_of })
    }

    #[tokio::test(start_paused = true)]
    async fn narrowed_channel_is_confirmed_before_routine_ones() {
        let [mut first, mut second, mut narrowed] = [10, 10, 10].map(ChannelAccess::new);
        first.note_grant(false, 10);
        tokio::time::advance(RETRY_INTERVAL).await;
        second.next_confirm_at = first.next_confirm_at + RETRY_INTERVAL;
        second.note_grant(false, 10);
        tokio::time::advance(CONFIRM_INTERVAL).await;
        narrowed.note_grant(true, 10);
        narrowed.note_narrowing(11);
        let priorities = [&narrowed, &first, &second].map(|access| access.confirm_priority(11).expect("due"));
        assert!(priorities.is_sorted(), "{priorities:?}");
        assert_eq!(priorities.map(|priority| priority.is_routine), [false, true, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn channel_keeps_its_priority_when_it_becomes_due_again() {
        let mut access = ChannelAccess::new(10);
        access.note_narrowing(11);
        let priority = access.confirm_priority(11);
        tokio::time::advance(RETRY_INTERVAL).await;
        access.note_narrowing(12);
        assert_eq!(access.confirm_priority(12), priority);
    }

    #[tokio::test(start_paused = true)]
    async fn channel_is_overdue_until_api_answers_however_often_it_is_asked() {
        let mut access = ChannelAccess::new(10);
        access.note_narrowing(11);
        tokio::time::advance(OVERDUE_AFTER / 2).await;
        assert!(access.start_confirmation(11) && !access.is_overdue());
        access.finish_confirmation(None);
        tokio::time::advance(OVERDUE_AFTER / 2).await;
        assert!(access.is_overdue());
        assert!(access.start_confirmation(11));
        access.finish_confirmation(answer(false, 11));
        assert!(!access.is_overdue());
        tokio::time::advance(CONFIRM_INTERVAL + OVERDUE_AFTER).await;
        assert!(access.is_overdue(), "api was not asked");
    }

    #[tokio::test(start_paused = true)]
    async fn removal_after_the_grant_ends_it() {
        let mut access = ChannelAccess::new(10);
        access.note_removal(12, user("bob"));
        assert!(access.is_revoked(&caller("bob"), 11));
        assert!(!access.is_revoked(&caller("bob"), 12), "added again since");
        assert!(!access.is_revoked(&caller("ann"), 11));
        assert!(
            !access.is_revoked(&Caller { is_admin: true, ..caller("bob") }, 11),
            "an admin needs no membership"
        );
        access.note_closing(20);
        assert!(access.is_revoked(&caller("ann"), 19));
    }

    #[tokio::test(start_paused = true)]
    async fn grant_older_than_the_channel_state_is_confirmed_at_once() {
        let mut access = ChannelAccess::new(10);
        access.note_grant(false, 9);
        assert!(!access.start_confirmation(9), "not applied yet");
        assert!(access.start_confirmation(10));
        assert!(!access.start_confirmation(10), "once at a time");
        access.finish_confirmation(answer(false, 10));
        assert!(!access.start_confirmation(10));
        tokio::time::advance(CONFIRM_INTERVAL).await;
        assert!(access.start_confirmation(10), "the minute's confirmation");
        access.finish_confirmation(None);
        assert!(!access.start_confirmation(10));
        tokio::time::advance(RETRY_INTERVAL).await;
        assert!(access.start_confirmation(10), "asked again where api did not answer");
    }

    #[tokio::test(start_paused = true)]
    async fn public_room_is_confirmed_if_its_grant_is_older_than_the_channel_state() {
        let mut access = ChannelAccess::new(10);
        access.note_grant(true, 9);
        assert!(access.start_confirmation(10), "it may have been closed or made private by the tenth event");
        access.finish_confirmation(answer(true, 10));
        access.note_grant(true, 9);
        tokio::time::advance(CONFIRM_INTERVAL * 2).await;
        assert!(!access.start_confirmation(100), "each event since was received");
    }

    #[tokio::test(start_paused = true)]
    async fn public_room_is_not_confirmed_until_it_is_made_private() {
        let mut access = ChannelAccess::new(10);
        access.note_grant(true, 10);
        tokio::time::advance(CONFIRM_INTERVAL * 2).await;
        assert!(!access.start_confirmation(100));
        access.note_caller_change();
        assert!(!access.start_confirmation(100));
        access.note_narrowing(101);
        assert!(!access.start_confirmation(100));
        assert!(access.start_confirmation(101));
    }

    #[tokio::test(start_paused = true)]
    async fn public_grant_older_than_the_narrowing_is_confirmed() {
        let mut access = ChannelAccess::new(10);
        access.note_narrowing(20);
        assert!(access.start_confirmation(20));
        access.finish_confirmation(answer(false, 25));
        access.note_grant(true, 15);
        assert!(access.start_confirmation(25), "its holder may not be allowed now");
        access.finish_confirmation(answer(false, 25));
        tokio::time::advance(CONFIRM_INTERVAL).await;
        assert!(access.start_confirmation(25), "the room is still private");
    }

    #[tokio::test(start_paused = true)]
    async fn answer_older_than_the_narrowing_does_not_widen_access() {
        let mut access = ChannelAccess::new(10);
        access.note_grant(false, 10);
        tokio::time::advance(CONFIRM_INTERVAL).await;
        assert!(access.start_confirmation(10));
        access.note_narrowing(20);
        access.finish_confirmation(answer(true, 19));
        assert!(access.start_confirmation(20));
        access.finish_confirmation(answer(false, 20));
        tokio::time::advance(CONFIRM_INTERVAL).await;
        assert!(access.start_confirmation(20), "the room is still private");
    }

    #[tokio::test(start_paused = true)]
    async fn newer_answer_widens_access() {
        let mut access = ChannelAccess::new(10);
        access.note_narrowing(20);
        access.note_grant(true, 21);
        assert!(access.start_confirmation(21));
        access.finish_confirmation(answer(true, 21));
        tokio::time::advance(CONFIRM_INTERVAL * 2).await;
        assert!(!access.start_confirmation(100));
    }

    #[tokio::test(start_paused = true)]
    async fn room_closed_before_the_channel_opened_admits_nobody_once_known() {
        let mut access = ChannelAccess::new(10);
        access.note_grant(true, 8);
        assert!(access.start_confirmation(10));
        access.finish_confirmation(Some(AccessAnswer { is_public: true, is_closed: true, as_of: 12 }));
        assert!(access.is_revoked(&caller("ann"), 8));
    }

    #[tokio::test(start_paused = true)]
    async fn confirmation_that_becomes_due_during_another_follows_it() {
        let mut access = ChannelAccess::new(10);
        access.note_grant(false, 10);
        tokio::time::advance(CONFIRM_INTERVAL).await;
        let changes: [fn(&mut ChannelAccess); 2] =
            [ChannelAccess::note_caller_change, |access| access.note_grant(false, 9)];
        for change in changes {
            assert!(access.start_confirmation(12));
            change(&mut access);
            access.finish_confirmation(answer(false, 12));
            assert!(access.start_confirmation(12), "api was asked about another caller, or fewer");
            access.finish_confirmation(answer(false, 12));
            assert!(!access.start_confirmation(12));
            tokio::time::advance(CONFIRM_INTERVAL).await;
        }
    }
}
