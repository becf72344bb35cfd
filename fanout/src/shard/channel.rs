//! Holds the state of one channel on this node: subscribers, recent events, and up to where it has received events.
//!
//! What must hold: events reach subscribers in the log's order, each at most once. An event above `start_seq`, and at
//! or below `last_seq`, was pushed or is queued for the next flush, unless the shard's set of received events lacks it:
//! then it was lost, and each subscriber that should have got it is closed once it is found. Queued events are flushed
//! before anything else changes the subscribers. A subscriber whose right ends by an event gets that event, and nothing
//! after it.

mod admission;
mod presence;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use protocol::{caller::Caller, event::EventName, id::UserId, subject::Channel};
use serde::Deserialize;
use tokio::{sync::oneshot, time::Instant};

pub(crate) use super::delivery_metrics::DeliveryMetrics;
pub(super) use admission::AdmissionStep;

use super::{
    access::ChannelAccess,
    presence_map::PresenceMap,
    push_waiter::{PushOutcome, PushWaiter},
    ring::Ring,
    subscribe::SubscribeRequest,
    subscribers::{OutgoingFrame, Subscribers},
};
use crate::encode::event::LiveEvent;
use crate::{
    encode::{EncodedEvent, native},
    outbox::Outbox,
};

/// How long a channel without subscribers stays subscribed, so that a client that comes back resumes from its ring.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A channel whose events this node receives.
pub(crate) struct ChannelState {
    channel: Channel,
    shard: usize,
    pub(crate) ring: Ring,
    last_seq: u64,
    epoch: u64,
    presence: PresenceMap,
    pub(crate) access: ChannelAccess,
    /// Whether the channel is a direct room of two people.
    is_pair: bool,
    /// Sequence from which the channel's state is complete. Events up to it were never missed here.
    start_seq: u64,
    /// The last event of each name, as the broker chains them.
    last_seq_by_event: HashMap<String, u64>,
    /// Subscribers that wait for a read of the log: it has older events that they lack.
    waiting_for_replay: Vec<SubscribeRequest>,
    /// A read of the log for them runs, or is queued. The ring drops nothing for its age meanwhile.
    is_replaying: bool,
    subscribers: Subscribers,
    idle_since: Option<Instant>,
    /// Already in the shard's list of channels to flush by [`ChannelState::flush`].
    is_in_flush_list: bool,
    /// Sockets that wait for the push of an event of their own: it is their answer.
    push_waiters: Vec<PushWaiter>,
    /// Ends the channel's own subscription when dropped.
    own_subscription: Option<oneshot::Sender<()>>,
    metrics: Arc<DeliveryMetrics>,
}

/// The person whom an event is about.
#[derive(Deserialize)]
struct AboutPerson {
    user: UserId,
}

/// The fields of a room's update that may end rights.
#[derive(Deserialize)]
struct RoomRestriction {
    #[serde(default)]
    private: Option<bool>,
    #[serde(default)]
    closed: Option<bool>,
}

impl ChannelState {
    /// A channel whose state is complete from `last` on.
    pub(crate) fn new(
        channel: Channel,
        shard: usize,
        last: u64,
        epoch: u64,
        own_subscription: oneshot::Sender<()>,
        metrics: Arc<DeliveryMetrics>,
    ) -> Self {
        Self {
            channel,
            shard,
            ring: Ring::new(last),
            last_seq: last,
            epoch,
            presence: PresenceMap::default(),
            access: ChannelAccess::new(last),
            is_pair: false,
            start_seq: last,
            last_seq_by_event: HashMap::new(),
            waiting_for_replay: Vec::new(),
            is_replaying: false,
            subscribers: Subscribers::default(),
            idle_since: Some(Instant::now()),
            is_in_flush_list: false,
            push_waiters: Vec::new(),
            own_subscription: Some(own_subscription),
            metrics,
        }
    }

    /// Removes a subscriber or a watcher, unless a frame later than `frame_number` asked for it.
    pub(crate) fn remove(&mut self, socket_id: u64, frame_number: u64, is_watcher: bool) {
        self.subscribers.remove(socket_id, frame_number, is_watcher);
        self.waiting_for_replay.retain(|request| !request.is_from(socket_id, frame_number, is_watcher));
        self.start_idle_timer_if_empty();
    }

    /// Changes the caller of a socket: api will be asked whether the socket may stay.
    pub(crate) fn change_caller(&mut self, socket_id: u64, caller: &Caller) {
        if self.subscribers.change_caller(socket_id, caller) {
            self.access.note_caller_change();
        }
    }

    fn start_idle_timer_if_empty(&mut self) {
        if self.subscribers.is_empty() && self.waiting_for_replay.is_empty() {
            self.idle_since.get_or_insert_with(Instant::now);
        }
    }

    /// Whether it had no subscribers for long, and none is about to be admitted.
    pub(crate) fn is_idle_timed_out(&self) -> bool {
        self.waiting_for_replay.is_empty()
            && self.idle_since.is_some_and(|since| since.elapsed() > IDLE_TIMEOUT)
    }

    /// Keeps it for a while longer, because a subscriber is about to be admitted.
    fn restart_idle_timer(&mut self) {
        self.idle_since = self.idle_since.map(|_| Instant::now());
    }

    /// Ends its own subscription, because another one brings its events now.
    pub(crate) fn end_own_subscription(&mut self) {
        self.own_subscription = None;
    }

    /// The sequence from which the channel's state is complete.
    pub(crate) const fn start_seq(&self) -> u64 {
        self.start_seq
    }

    /// The last event of the channel that was delivered.
    pub(crate) const fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Whether a socket is pushed this channel's events.
    pub(crate) fn has_subscriber(&self, socket_id: u64) -> bool {
        self.subscribers.has(socket_id)
    }

    /// The last event of a name that was received, if the broker names a later one (`before`): the events between them
    /// were lost on their way to this node.
    pub(crate) fn gap(&self, event: &str, before: u64) -> Option<u64> {
        let last_received = self.last_seq_by_event.get(event).copied().unwrap_or(self.start_seq);
        (before > last_received).then_some(last_received)
    }

    /// Queues an event for all subscribers. Ignores an event that was delivered already. True if the channel has to be
    /// put into the flush list, because it is not there yet.
    pub(crate) fn queue(&mut self, event: LiveEvent<'_>) -> bool {
        if event.seq <= self.last_seq {
            return false;
        }
        self.apply(event);
        !std::mem::replace(&mut self.is_in_flush_list, true)
    }

    fn apply(&mut self, event: LiveEvent<'_>) {
        self.last_seq = event.seq;
        let name = EventName::parse(event.name);
        let Some(outgoing) = self.prepare(event, name) else { return };
        if native::is_replayed(event.name)
            && let Some(frame) = &outgoing.encoded.native
        {
            self.ring.push(event.seq, frame.clone());
        }
        self.subscribers.queue(outgoing);
        self.apply_access_change(event, name);
    }

    /// Applies an event that was lost on its way and is found after later ones were pushed: adds it to the ring, and
    /// ends the rights that it ends. Closes the subscribers that should have got it, to resume from `position`, which
    /// lies before it. Returns their number.
    pub(crate) fn apply_late(&mut self, event: LiveEvent<'_>, position: &Bytes) -> usize {
        self.flush();
        let name = EventName::parse(event.name);
        let Some(outgoing) = self.prepare(event, name) else { return 0 };
        if native::is_replayed(event.name)
            && let Some(frame) = &outgoing.encoded.native
        {
            self.ring.insert(event.seq, frame.clone());
        }
        let closed = self.subscribers.close_lacking(&outgoing, position);
        self.apply_access_change(event, name);
        self.start_idle_timer_if_empty();
        closed
    }

    /// The frames of an event for the subscribers. `None` if the event is not pushed.
    fn prepare(&mut self, event: LiveEvent<'_>, name: Option<EventName>) -> Option<OutgoingFrame> {
        match self.last_seq_by_event.get_mut(event.name) {
            Some(last) => *last = event.seq.max(*last),
            None => drop(self.last_seq_by_event.insert(event.name.to_owned(), event.seq)),
        }
        let only_for = match name {
            Some(EventName::ParticipantJoin | EventName::ParticipantLeave) => {
                let is_announced = self.apply_presence(event, name == Some(EventName::ParticipantJoin));
                return is_announced.then(|| self.outgoing(event, None));
            }
            // In a room of more than two people, only the reader's own sockets are pushed the event.
            Some(EventName::MessageRead) if !self.is_pair => {
                let AboutPerson { user } = serde_json::from_slice(event.payload).ok()?;
                Some(user)
            }
            _ => None,
        };
        Some(self.outgoing(event, only_for))
    }

    fn outgoing(&self, event: LiveEvent<'_>, only_for: Option<UserId>) -> OutgoingFrame {
        let encoded =
            EncodedEvent::encode(&self.channel, event, |format| self.subscribers.needs_format(format));
        OutgoingFrame { seq: event.seq, encoded, only_for }
    }

    /// Ends the rights to follow the channel that an event ends.
    fn apply_access_change(&mut self, event: LiveEvent<'_>, name: Option<EventName>) {
        match name {
            Some(EventName::MemberRemove | EventName::TeamMemberRemove) => self.apply_removal(event),
            Some(EventName::RoomUpdate) => self.apply_room_update(event),
            _ => {}
        }
    }

    /// Sends the frames of all queued events.
    pub(crate) fn flush(&mut self) {
        self.is_in_flush_list = false;
        let sent = self.subscribers.flush();
        self.metrics.frames.increment(sent.frames as u64);
        self.metrics.bytes.increment(sent.bytes as u64);
        self.metrics.overflows.increment(sent.closed_sockets.len() as u64);
        for socket_id in sent.closed_sockets {
            self.remove(socket_id, u64::MAX, false);
        }
        self.notify_pushed();
    }

    /// Answers a socket once its own event was pushed to it, or at once if it was.
    pub(crate) fn notify_when_pushed(&mut self, waiter: PushWaiter) {
        self.push_waiters.push(waiter);
        self.flush();
    }

    fn notify_pushed(&mut self) {
        let (subscribers, last) = (&self.subscribers, self.last_seq);
        for waiter in self.push_waiters.extract_if(.., |waiter| waiter.seq <= last) {
            // The session may be gone: then the outcome is dropped.
            let is_subscribed = subscribers.has(waiter.socket_id);
            let _ = waiter.done.send(if is_subscribed {
                PushOutcome::Pushed
            } else {
                PushOutcome::NotSubscribed
            });
        }
    }

    /// Pushes a frame that is not stored. Such frames are dropped first where a client reads slowly.
    pub(crate) fn push_unstored(&mut self, frame: &Bytes) {
        self.flush();
        self.subscribers.push_unstored(frame);
    }

    /// Pushes a frame that is not stored, and which each client needs to know the room's state.
    fn push_state(&mut self, frame: &Bytes) {
        self.flush();
        self.subscribers.push_state(frame);
    }

    /// Drops from the ring the events that are older than `age`. Drops none while the log is read for it: a read ends
    /// at the ring's base, and if that moves, the events that were read no longer fit.
    pub(super) fn drop_from_ring_older_than(&mut self, age: Duration) {
        if !self.is_replaying {
            self.ring.drop_older_than(age);
        }
    }

    fn apply_removal(&mut self, event: LiveEvent<'_>) {
        let Ok(AboutPerson { user }) = serde_json::from_slice(event.payload) else { return };
        self.access.note_removal(event.seq, user.clone());
        self.evict(event.seq, |caller| caller.user == user && !caller.is_admin);
    }

    fn apply_room_update(&mut self, event: LiveEvent<'_>) {
        let Ok(update) = serde_json::from_slice::<RoomRestriction>(event.payload) else { return };
        if update.closed == Some(true) {
            self.access.note_closing(event.seq);
            self.evict(event.seq, |_| true);
        } else if update.private == Some(true) {
            self.access.note_narrowing(event.seq);
        }
    }

    /// Evicts the callers for whom `is_revoked` is true, if their right was granted before an event.
    pub(crate) fn evict(&mut self, seq: u64, is_revoked: impl Fn(&Caller) -> bool) {
        self.flush();
        self.subscribers.evict(&self.channel, seq, is_revoked);
        self.start_idle_timer_if_empty();
    }

    /// Whether it has no subscriber and no watcher.
    pub(crate) fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// The callers of all subscribers and watchers, each once.
    pub(crate) fn callers(&self) -> HashSet<Caller> {
        self.subscribers.callers()
    }

    /// The outboxes of all subscribers.
    pub(crate) fn outboxes(&self) -> impl Iterator<Item = &Arc<Outbox>> {
        self.subscribers.outboxes()
    }
}
