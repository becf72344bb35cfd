//! Holds the sockets of one channel: subscribers, which are pushed its events, and watchers, which are only closed when
//! their right ends.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use protocol::{caller::Caller, id::UserId, subject::Channel};

use crate::{
    encode::{EncodedEvent, PushFormat},
    outbox::Outbox,
};

/// A socket that follows the channel or watches access to it, with its right.
pub(super) struct Subscriber {
    pub(super) outbox: Arc<Outbox>,
    /// Number of the socket's frame that asked to follow the channel.
    pub(super) frame_number: u64,
    pub(super) caller: Caller,
    /// The event as of which its right was granted.
    pub(super) granted_as_of: u64,
    /// The client has everything up to this event already.
    pub(super) after_seq: u64,
}

/// An event that all subscribers get next, or all sockets of one person.
pub(super) struct OutgoingFrame {
    pub(super) seq: u64,
    pub(super) encoded: EncodedEvent,
    pub(super) only_for: Option<UserId>,
}

impl OutgoingFrame {
    /// The frame that one socket is sent, if any.
    fn frame_for(&self, subscriber: &Subscriber) -> Option<&Bytes> {
        let is_recipient = self.only_for.as_ref().is_none_or(|user| *user == subscriber.caller.user);
        let is_new = self.seq > subscriber.after_seq;
        self.encoded.frame(subscriber.outbox.format()).filter(|_| is_new && is_recipient)
    }
}

/// Counts of the frames that a flush has sent.
#[derive(Default)]
pub(super) struct FlushResult {
    pub(super) frames: usize,
    pub(super) bytes: usize,
    /// Sockets that are closing.
    pub(super) closed_sockets: Vec<u64>,
}

/// Maximum sessions that are told at once that their right has ended.
const EVICTED_AT_ONCE: usize = 1_000;

fn notify_evicted(channel: &Channel, evicted: impl IntoIterator<Item = Subscriber>) {
    for subscriber in evicted {
        subscriber.outbox.evict(channel.clone(), subscriber.frame_number);
    }
}

/// The sockets of one channel, by their numbers on this node.
#[derive(Default)]
pub(super) struct Subscribers {
    subscribers: HashMap<u64, Subscriber>,
    access_watchers: HashMap<u64, Subscriber>,
    /// Whether a subscriber needs, or needed, frames of these formats.
    has_match_format: bool,
    has_deflated_format: bool,
    outgoing: Vec<OutgoingFrame>,
}

impl Subscribers {
    /// Adds a subscriber.
    pub(super) fn add(&mut self, socket_id: u64, subscriber: Subscriber) {
        self.has_match_format |= subscriber.outbox.format() == PushFormat::Match;
        self.has_deflated_format |= subscriber.outbox.format() == PushFormat::Deflated;
        self.subscribers.insert(socket_id, subscriber);
    }

    /// Adds a watcher.
    pub(super) fn add_access_watcher(&mut self, socket_id: u64, subscriber: Subscriber) {
        self.access_watchers.insert(socket_id, subscriber);
    }

    /// Removes a subscriber or a watcher, unless a frame later than `frame_number` asked for it.
    pub(super) fn remove(&mut self, socket_id: u64, frame_number: u64, is_watcher: bool) {
        let sockets = if is_watcher { &mut self.access_watchers } else { &mut self.subscribers };
        if sockets.get(&socket_id).is_some_and(|subscriber| subscriber.frame_number <= frame_number) {
            sockets.remove(&socket_id);
        }
    }

    /// Changes the caller of a socket. Returns whether the socket is a subscriber or a watcher.
    pub(super) fn change_caller(&mut self, socket_id: u64, caller: &Caller) -> bool {
        let mut is_found = false;
        for sockets in [&mut self.subscribers, &mut self.access_watchers] {
            if let Some(subscriber) = sockets.get_mut(&socket_id) {
                subscriber.caller = caller.clone();
                is_found = true;
            }
        }
        is_found
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subscribers.is_empty() && self.access_watchers.is_empty()
    }

    /// Whether a socket is pushed this channel's events.
    pub(super) fn has(&self, socket_id: u64) -> bool {
        self.subscribers.contains_key(&socket_id)
    }

    /// Whether a subscriber may need frames of that format.
    pub(super) const fn needs_format(&self, format: PushFormat) -> bool {
        match format {
            PushFormat::Native => true,
            PushFormat::Deflated => self.has_deflated_format,
            PushFormat::Match => self.has_match_format,
        }
    }

    /// Queues a frame for the next flush.
    pub(super) fn queue(&mut self, frame: OutgoingFrame) {
        if !self.subscribers.is_empty() {
            self.outgoing.push(frame);
        }
    }

    /// Sends the queued frames to each subscriber, in one write.
    pub(super) fn flush(&mut self) -> FlushResult {
        let mut sent = FlushResult::default();
        if self.outgoing.is_empty() {
            // Each admission flushes first: it must not cost a walk over all subscribers.
            return sent;
        }
        let outgoing = std::mem::take(&mut self.outgoing);
        let mut frames = Vec::with_capacity(outgoing.len());
        for (socket_id, subscriber) in &self.subscribers {
            frames.clear();
            frames.extend(outgoing.iter().filter_map(|event| event.frame_for(subscriber)));
            if frames.is_empty() {
                continue;
            }
            if subscriber.outbox.deliver(&frames) {
                sent.frames += frames.len();
                sent.bytes += frames.iter().map(|frame| frame.len()).sum::<usize>();
            } else {
                sent.closed_sockets.push(*socket_id);
            }
        }
        sent
    }

    /// Closes the subscribers that lack an event and were sent later ones, to resume from a position before it. Returns
    /// their number.
    pub(super) fn close_lacking(&mut self, event: &OutgoingFrame, position: &Bytes) -> usize {
        let before = self.subscribers.len();
        self.subscribers.retain(|_, subscriber| {
            let lacks_it = event.frame_for(subscriber).is_some();
            if lacks_it {
                subscriber.outbox.close_for_resume(position);
            }
            !lacks_it
        });
        before - self.subscribers.len()
    }

    /// Pushes a frame that is not stored.
    pub(super) fn push_unstored(&self, frame: &Bytes) {
        for subscriber in self.subscribers.values() {
            subscriber.outbox.push_unstored(frame);
        }
    }

    /// Pushes a frame that is not stored to clients of the native form, slow ones too.
    pub(super) fn push_state(&self, frame: &Bytes) {
        for subscriber in
            self.subscribers.values().filter(|subscriber| subscriber.outbox.format() != PushFormat::Match)
        {
            // A socket that is closing is removed by the next flush.
            subscriber.outbox.push_answer(frame.clone());
        }
    }

    /// Removes the callers for whom `is_revoked` is true and whose right was granted before an event: they are pushed
    /// nothing more. Tells their sessions at once; if there are very many, in a task of its own, so that other channels
    /// need not wait.
    pub(super) fn evict(&mut self, channel: &Channel, seq: u64, is_revoked: impl Fn(&Caller) -> bool) {
        let is_evicted = |_: &u64, subscriber: &mut Subscriber| {
            subscriber.granted_as_of < seq && is_revoked(&subscriber.caller)
        };
        let mut evicted: Vec<Subscriber> =
            self.subscribers.extract_if(is_evicted).map(|(_, subscriber)| subscriber).collect();
        evicted.extend(self.access_watchers.extract_if(is_evicted).map(|(_, subscriber)| subscriber));
        let later = evicted.split_off(evicted.len().min(EVICTED_AT_ONCE));
        notify_evicted(channel, evicted);
        if !later.is_empty() {
            let channel = channel.clone();
            tokio::spawn(async move {
                let mut later = later.into_iter();
                while later.len() > 0 {
                    notify_evicted(&channel, later.by_ref().take(EVICTED_AT_ONCE));
                    tokio::task::yield_now().await;
                }
            });
        }
    }

    /// The callers of all subscribers and watchers, each once.
    pub(super) fn callers(&self) -> HashSet<Caller> {
        self.subscribers
            .values()
            .chain(self.access_watchers.values())
            .map(|subscriber| subscriber.caller.clone())
            .collect()
    }

    /// The outboxes of all subscribers and watchers.
    pub(super) fn outboxes(&self) -> impl Iterator<Item = &Arc<Outbox>> {
        self.subscribers.values().chain(self.access_watchers.values()).map(|subscriber| &subscriber.outbox)
    }
}
