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

/// A socket in the channel, with its right.
pub(super) struct Subscriber {
    pub(super) outbox: Arc<Outbox>,
    /// Number of the socket's frame that asked.
    pub(super) frame_number: u64,
    pub(super) caller: Caller,
    /// The event as of which its right was granted.
    pub(super) granted_as_of: u64,
    /// The client has everything up to here already.
    pub(super) after_seq: u64,
}

/// An event that all subscribers get next, or all sockets of one person.
pub(super) struct OutgoingFrame {
    pub(super) seq: u64,
    pub(super) encoded: EncodedEvent,
    pub(super) only_for: Option<UserId>,
}

impl OutgoingFrame {
    /// What one socket is sent of it.
    fn frame_for(&self, member: &Subscriber) -> Option<&Bytes> {
        let concerns = self.only_for.as_ref().is_none_or(|user| *user == member.caller.user);
        let is_new = self.seq > member.after_seq;
        self.encoded.frame(member.outbox.format()).filter(|_| is_new && concerns)
    }
}

/// Counts of what was sent.
#[derive(Default)]
pub(super) struct FlushResult {
    pub(super) frames: usize,
    pub(super) bytes: usize,
    /// Sockets that take nothing more.
    pub(super) closed_sockets: Vec<u64>,
}

/// Number of sessions that are told in one go that their right has ended.
const EVICTED_AT_ONCE: usize = 1_000;

fn notify_evicted(channel: &Channel, evicted: impl IntoIterator<Item = Subscriber>) {
    for member in evicted {
        member.outbox.evict(channel.clone(), member.frame_number);
    }
}

/// The sockets of one channel, by their numbers on this node.
#[derive(Default)]
pub(super) struct Subscribers {
    subscribers: HashMap<u64, Subscriber>,
    access_watchers: HashMap<u64, Subscriber>,
    /// Some are, or were, pushed these forms.
    has_match_format: bool,
    has_deflated_format: bool,
    outgoing: Vec<OutgoingFrame>,
}

impl Subscribers {
    /// Adds a subscriber.
    pub(super) fn add(&mut self, socket_id: u64, member: Subscriber) {
        self.has_match_format |= member.outbox.format() == PushFormat::Match;
        self.has_deflated_format |= member.outbox.format() == PushFormat::Deflated;
        self.subscribers.insert(socket_id, member);
    }

    /// Adds a watcher.
    pub(super) fn add_access_watcher(&mut self, socket_id: u64, member: Subscriber) {
        self.access_watchers.insert(socket_id, member);
    }

    /// A socket is not here any more by what its frames up to that one had asked; as a watcher, or as one
    /// that is pushed to.
    pub(super) fn remove(&mut self, socket_id: u64, frame_number: u64, is_watcher: bool) {
        let sockets = if is_watcher { &mut self.access_watchers } else { &mut self.subscribers };
        if sockets.get(&socket_id).is_some_and(|member| member.frame_number <= frame_number) {
            sockets.remove(&socket_id);
        }
    }

    /// A socket goes on as another caller. Answers whether it is here.
    pub(super) fn change_caller(&mut self, socket_id: u64, caller: &Caller) -> bool {
        let mut is_here = false;
        for sockets in [&mut self.subscribers, &mut self.access_watchers] {
            if let Some(member) = sockets.get_mut(&socket_id) {
                member.caller = caller.clone();
                is_here = true;
            }
        }
        is_here
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subscribers.is_empty() && self.access_watchers.is_empty()
    }

    /// Whether a socket is pushed this channel's events.
    pub(super) fn has(&self, connection: u64) -> bool {
        self.subscribers.contains_key(&connection)
    }

    /// Whether somebody may be pushed that form.
    pub(super) const fn needs_format(&self, form: PushFormat) -> bool {
        match form {
            PushFormat::Native => true,
            PushFormat::Deflated => self.has_deflated_format,
            PushFormat::Match => self.has_match_format,
        }
    }

    /// Queues a frame for the next flush.
    pub(super) fn queue(&mut self, next: OutgoingFrame) {
        if !self.subscribers.is_empty() {
            self.outgoing.push(next);
        }
    }

    /// Sends the queued frames to each subscriber, in one write.
    pub(super) fn flush(&mut self) -> FlushResult {
        let mut sent = FlushResult::default();
        if self.outgoing.is_empty() {
            // Each admission flushes first: it must not cost a walk over all subscribers.
            return sent;
        }
        let next = std::mem::take(&mut self.outgoing);
        let mut frames = Vec::with_capacity(next.len());
        for (connection, member) in &self.subscribers {
            frames.clear();
            frames.extend(next.iter().filter_map(|next| next.frame_for(member)));
            if frames.is_empty() {
                continue;
            }
            if member.outbox.deliver(&frames) {
                sent.frames += frames.len();
                sent.bytes += frames.iter().map(|frame| frame.len()).sum::<usize>();
            } else {
                sent.closed_sockets.push(*connection);
            }
        }
        sent
    }

    /// Closes those who lack an event and have been sent later ones: they resume from a position before it.
    /// Answers how many.
    pub(super) fn close_lacking(&mut self, event: &OutgoingFrame, position: &Bytes) -> usize {
        let before = self.subscribers.len();
        self.subscribers.retain(|_, member| {
            let has_it = event.frame_for(member).is_none();
            if !has_it {
                member.outbox.close_for_resume(position);
            }
            has_it
        });
        before - self.subscribers.len()
    }

    /// Pushes a frame that is not stored.
    pub(super) fn push_unstored(&self, frame: &Bytes) {
        for member in self.subscribers.values() {
            member.outbox.push_unstored(frame);
        }
    }

    /// Pushes a frame that is not stored to clients of the native form, slow ones too.
    pub(super) fn push_state(&self, frame: &Bytes) {
        for member in self.subscribers.values().filter(|member| member.outbox.format() != PushFormat::Match) {
            // One that takes nothing more is removed by the next flush.
            member.outbox.push_answer(frame.clone());
        }
    }

    /// Removes those whom it concerns and whose right was granted before that event: they are pushed nothing more.
    /// Their sessions are told at once; of very many, in a task of its own, so that other channels need not wait.
    pub(super) fn evict(&mut self, channel: &Channel, seq: u64, is_revoked: impl Fn(&Caller) -> bool) {
        let ends =
            |_: &u64, member: &mut Subscriber| member.granted_as_of < seq && is_revoked(&member.caller);
        let mut evicted: Vec<Subscriber> =
            self.subscribers.extract_if(ends).map(|(_, member)| member).collect();
        evicted.extend(self.access_watchers.extract_if(ends).map(|(_, member)| member));
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

    /// Everyone whose right counts here, each once.
    pub(super) fn callers(&self) -> HashSet<Caller> {
        self.subscribers
            .values()
            .chain(self.access_watchers.values())
            .map(|member| member.caller.clone())
            .collect()
    }

    /// The outboxes of all subscribers.
    pub(super) fn outboxes(&self) -> impl Iterator<Item = &Arc<Outbox>> {
        self.subscribers.values().chain(self.access_watchers.values()).map(|member| &member.outbox)
    }
}
