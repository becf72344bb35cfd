//! One channel on this node: its followers, its recent events, and up to where it has received events.
//!
//! What must hold: events reach followers in the log's order, each at most once. What is above `began`, and at
//! or below `last`, has been pushed or is about to be, unless the shard's set of heard events lacks it: then
//! it was lost, and whoever should have got it is closed once it is found. What is about to
//! be is sent before anything else changes who is here. A follower whose right ends by an event gets that
//! event, and nothing after it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use protocol::{
    caller::Caller,
    event::{EventName, header},
    id::UserId,
    subject::Channel,
};
use serde::Deserialize;
use service::metric_names as names;
use tokio::{sync::oneshot, time::Instant};

pub(crate) use super::deliveries::{Deliveries, Heard};
use super::{
    fold::Fold,
    follower::{Followed, Follower},
    members::{Member, Members, Next},
    rights::Rights,
    ring::Ring,
};
use crate::{
    render::{Rendered, native},
    session::outbox::Outbox,
};

/// How long a channel without followers stays subscribed, so that a client that comes back resumes from its ring.
const LINGER: Duration = Duration::from_secs(30);

/// A socket whose answer is the push of its event.
pub(crate) struct Sender {
    /// The socket's number on this node.
    pub(crate) connection: u64,
    /// The event.
    pub(crate) seq: u64,
    /// Resolves once it was pushed.
    pub(crate) done: oneshot::Sender<bool>,
}

/// A channel whose events this node receives.
pub(crate) struct Hub {
    channel: Channel,
    shard: usize,
    pub(crate) ring: Ring,
    pub(crate) last: u64,
    pub(crate) epoch: u64,
    pub(crate) fold: Fold,
    pub(crate) rights: Rights,
    /// The room of two people.
    pair: bool,
    /// Sequence from which the channel's state is complete. Events up to it were never missed here.
    began: u64,
    /// The last event of each name, as the broker chains them.
    chain: HashMap<String, u64>,
    /// Followers that wait for a read of the log: it has older events that they lack.
    pub(crate) resuming: Vec<Follower>,
    /// A read of the log for them runs, or is queued. The ring drops nothing for its age meanwhile.
    pub(crate) reading: bool,
    members: Members,
    idle_since: Option<Instant>,
    /// Already in the shard's list of channels to flush by [`Hub::send`].
    unsent: bool,
    /// Sockets that wait for the push of an event of their own: it is their answer.
    senders: Vec<Sender>,
    /// Ends the channel's own subscription when dropped.
    interest: Option<oneshot::Sender<()>>,
    metrics: Arc<Deliveries>,
}

/// The person that an event is about.
#[derive(Deserialize)]
struct About {
    user: UserId,
}

/// What an update of a room may mean for those who are in it.
#[derive(Deserialize)]
struct Update {
    #[serde(default)]
    private: Option<bool>,
    #[serde(default)]
    closed: Option<bool>,
}

impl Hub {
    /// A channel that is complete from `last` on.
    pub(crate) fn new(
        channel: Channel,
        shard: usize,
        last: u64,
        epoch: u64,
        interest: oneshot::Sender<()>,
        metrics: Arc<Deliveries>,
    ) -> Self {
        Self {
            channel,
            shard,
            ring: Ring::new(last),
            last,
            epoch,
            fold: Fold::default(),
            rights: Rights::new(last),
            pair: false,
            began: last,
            chain: HashMap::new(),
            resuming: Vec::new(),
            reading: false,
            members: Members::default(),
            idle_since: Some(Instant::now()),
            unsent: false,
            senders: Vec::new(),
            interest: Some(interest),
            metrics,
        }
    }

    /// Lets a follower in: its answer, what it missed, then everything as it comes. `recovered`
    /// is false where what it missed can't be had.
    pub(crate) fn admit(&mut self, follower: Follower, recovered: bool) {
        self.send();
        // Without a grant only events from now on can end the right.
        let as_of = follower.grant.map_or(self.last, |grant| grant.as_of);
        if self.rights.is_over(&follower.caller, as_of) {
            // The session may be gone meanwhile: then nobody waits.
            let _ = follower.done.send(false);
            return;
        }
        if let Some(grant) = follower.grant {
            self.rights.granted(grant.public, grant.as_of);
            self.pair = grant.pair;
        }
        let since = follower.since.filter(|_| recovered);
        let member = Member {
            outbox: follower.outbox,
            frame: follower.frame,
            caller: follower.caller,
            as_of,
            // A client may be ahead of this node: what it has already is not pushed again.
            from: since.unwrap_or(self.last),
        };
        self.idle_since = None;
        if let Some(answer) = follower.answer {
            let followed = Followed {
                shard: self.shard,
                epoch: self.epoch,
                id: member.from,
                recovered,
                people: matches!(self.channel, Channel::Room(_)).then(|| self.fold.answer()),
            };
            let mut open = member.outbox.push_answer(answer(&followed));
            for frame in since.into_iter().flat_map(|since| self.ring.after(since)) {
                open = open && member.outbox.push_resumed(frame.clone());
            }
            let outcome = match (follower.since, recovered) {
                (None, _) => "new",
                (Some(_), true) => "recovered",
                (Some(_), false) => "lost",
            };
            metrics::counter!(names::RESUMES_TOTAL, "outcome" => outcome).increment(1);
            if open {
                self.members.follow(follower.connection, member);
            }
        } else {
            self.members.guard(follower.connection, member);
        }
        let _ = follower.done.send(true);
    }

    /// A socket does not follow any more, as far as its frames up to that one had asked; as a guard, or as
    /// one that is pushed to.
    pub(crate) fn remove(&mut self, connection: u64, frame: u64, guard: bool) {
        self.members.remove(connection, frame, guard);
        self.resuming.retain(|follower| !follower.is_by(connection, frame, guard));
        self.note_idle();
    }

    /// A socket goes on with another token: api is asked whether it may stay by that one.
    pub(crate) fn change_caller(&mut self, connection: u64, caller: &Caller) {
        if self.members.change_caller(connection, caller) {
            self.rights.caller_changed();
        }
    }

    fn note_idle(&mut self) {
        if self.members.is_empty() && self.resuming.is_empty() {
            self.idle_since.get_or_insert_with(Instant::now);
        }
    }

    /// Whether nobody has followed it for long, and nobody is about to.
    pub(crate) fn is_stale(&self) -> bool {
        self.resuming.is_empty() && self.idle_since.is_some_and(|since| since.elapsed() > LINGER)
    }

    /// Keeps it for a while longer, because a socket is about to follow it.
    pub(crate) fn expect(&mut self) {
        self.idle_since = self.idle_since.map(|_| Instant::now());
    }

    /// Its events come by another subscription now.
    pub(crate) fn is_heard_otherwise(&mut self) {
        self.interest = None;
    }

    /// Everything after this was heard.
    pub(crate) const fn began(&self) -> u64 {
        self.began
    }

    /// Whether a socket is pushed this channel's events.
    pub(crate) fn has(&self, connection: u64) -> bool {
        self.members.has(connection)
    }

    /// The last event of that name that came before, where the broker names a later one: what
    /// lies between was lost on its way to this node.
    pub(crate) fn gap(&self, event: &str, before: u64) -> Option<u64> {
        let known = self.chain.get(event).copied().unwrap_or(self.began);
        (before > known).then_some(known)
    }

    /// An event is to be sent to everyone, once: one that is known already does nothing. True where
    /// [`Hub::send`] has to be called, and did not before.
    pub(crate) fn deliver(&mut self, heard: Heard<'_>) -> bool {
        if heard.seq <= self.last {
            return false;
        }
        self.take(heard);
        !std::mem::replace(&mut self.unsent, true)
    }

    fn take(&mut self, heard: Heard<'_>) {
        self.last = heard.seq;
        let name = EventName::parse(heard.event);
        let Some(next) = self.next(heard, name) else { return };
        if native::is_replayed(heard.event)
            && let Some(frame) = &next.rendered.native
        {
            self.ring.push(heard.seq, frame.clone());
        }
        self.members.send_next(next);
        self.limit_rights(heard, name);
    }

    /// An event that was lost on its way is found after later ones were pushed. It takes its place in the ring
    /// and ends what rights it ends; whoever should have got it is closed, to resume from `position`, which lies
    /// before it. Answers how many are.
    pub(crate) fn find(&mut self, heard: Heard<'_>, position: &Bytes) -> usize {
        self.send();
        let name = EventName::parse(heard.event);
        let Some(next) = self.next(heard, name) else { return 0 };
        if native::is_replayed(heard.event)
            && let Some(frame) = &next.rendered.native
        {
            self.ring.insert(heard.seq, frame.clone());
        }
        let closed = self.members.close_lacking(&next, position);
        self.limit_rights(heard, name);
        self.note_idle();
        closed
    }

    /// The frames of an event for its followers; `None` where it changes nothing for them.
    fn next(&mut self, heard: Heard<'_>, name: Option<EventName>) -> Option<Next> {
        let Heard { event, seq, .. } = heard;
        match self.chain.get_mut(event) {
            Some(last) => *last = seq.max(*last),
            None => drop(self.chain.insert(event.to_owned(), seq)),
        }
        let only = match name {
            Some(EventName::ParticipantJoin | EventName::ParticipantLeave) => {
                let is_told = self.take_word(heard, name == Some(EventName::ParticipantJoin));
                return is_told.then(|| self.rendered(heard, None));
            }
            // In a room of more than two, only the reader's own sockets are sent what was read.
            Some(EventName::MessageRead) if !self.pair => {
                let About { user } = serde_json::from_slice(heard.payload).ok()?;
                Some(user)
            }
            _ => None,
        };
        Some(self.rendered(heard, only))
    }

    fn rendered(&self, heard: Heard<'_>, only: Option<UserId>) -> Next {
        let rendered = Rendered::of(&self.channel, heard, |form| self.members.takes(form));
        Next { seq: heard.seq, rendered, only }
    }

    /// An event may end the right to be here.
    fn limit_rights(&mut self, heard: Heard<'_>, name: Option<EventName>) {
        match name {
            Some(EventName::MemberRemove | EventName::TeamMemberRemove) => self.removed(heard),
            Some(EventName::RoomUpdate) => self.updated(heard),
            _ => {}
        }
    }

    /// Flushes the frames of all events that were delivered.
    pub(crate) fn send(&mut self) {
        self.unsent = false;
        let sent = self.members.send();
        self.metrics.frames.increment(sent.frames as u64);
        self.metrics.bytes.increment(sent.bytes as u64);
        self.metrics.overflows.increment(sent.gone.len() as u64);
        for connection in sent.gone {
            self.remove(connection, u64::MAX, false);
        }
        self.answer_senders();
    }

    /// Tells a sender when the push of its event, which is its answer, was handed over: false where its
    /// socket does not follow any more.
    pub(crate) fn answers(&mut self, sender: Sender) {
        self.senders.push(sender);
        self.send();
    }

    fn answer_senders(&mut self) {
        let (members, last) = (&self.members, self.last);
        for sender in self.senders.extract_if(.., |sender| sender.seq <= last) {
            // The session may be gone meanwhile: then nobody waits.
            let _ = sender.done.send(members.has(sender.connection));
        }
    }

    /// Pushes a frame that is not stored. Such frames are dropped first where a client reads slowly.
    pub(crate) fn push_unstored(&mut self, frame: &Bytes) {
        self.send();
        self.members.push_unstored(frame);
    }

    /// Merges a join or leave that a process has stored. True where it changes who is present, so that it is pushed.
    fn take_word(&mut self, heard: Heard<'_>, present: bool) -> bool {
        let number = |name| heard.headers?.get_last(name)?.as_str().parse::<u64>().ok();
        let about = serde_json::from_slice::<About>(heard.payload).ok();
        match (about, number(header::INCARNATION), number(header::COUNTER)) {
            (Some(about), Some(incarnation), Some(counter)) => {
                self.fold.hear(&about.user, incarnation, counter, present)
            }
            _ => false,
        }
    }

    fn removed(&mut self, heard: Heard<'_>) {
        let Ok(About { user }) = serde_json::from_slice(heard.payload) else { return };
        self.rights.removed(heard.seq, user.clone());
        self.evict(heard.seq, |caller| caller.user == user && !caller.is_admin);
    }

    fn updated(&mut self, heard: Heard<'_>) {
        let Ok(update) = serde_json::from_slice::<Update>(heard.payload) else { return };
        if update.closed == Some(true) {
            self.rights.closed(heard.seq);
            self.evict(heard.seq, |_| true);
        } else if update.private == Some(true) {
            self.rights.narrowed(heard.seq);
        }
    }

    /// Ends the right of those whom it concerns, where it was granted before that event.
    pub(crate) fn evict(&mut self, seq: u64, whom: impl Fn(&Caller) -> bool) {
        self.send();
        self.members.end(&self.channel, seq, whom);
        self.note_idle();
    }

    /// Whether nobody follows it, or guards a right by it.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The callers of all followers and guards, each once.
    pub(crate) fn callers(&self) -> HashSet<Caller> {
        self.members.callers()
    }

    /// All sockets that follow it.
    pub(crate) fn outboxes(&self) -> impl Iterator<Item = &Arc<Outbox>> {
        self.members.outboxes()
    }
}
