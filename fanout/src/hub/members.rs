//! The sockets of one channel: those that are pushed its events, and those that only guard a right.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use protocol::{caller::Caller, id::UserId, subject::Channel};

use crate::{
    render::{Form, Rendered},
    session::outbox::Outbox,
};

/// A socket, and by what right it is here.
pub(super) struct Member {
    pub(super) outbox: Arc<Outbox>,
    /// Which of its frames asked.
    pub(super) frame: u64,
    pub(super) caller: Caller,
    /// Its right was granted as of this event.
    pub(super) as_of: u64,
    /// The client has everything up to here already.
    pub(super) from: u64,
}

/// An event that all followers get next, or all sockets of one person.
pub(super) struct Next {
    pub(super) seq: u64,
    pub(super) rendered: Rendered,
    pub(super) only: Option<UserId>,
}

impl Next {
    /// What this one is to be sent of it.
    fn frame(&self, member: &Member) -> Option<&Bytes> {
        let concerns = self.only.as_ref().is_none_or(|user| *user == member.caller.user);
        let is_new = self.seq > member.from;
        self.rendered.frame(member.outbox.form()).filter(|_| is_new && concerns)
    }
}

/// What was sent.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) frames: usize,
    pub(super) bytes: usize,
    /// Sockets that take nothing more.
    pub(super) gone: Vec<u64>,
}

/// The sockets of one channel, by their numbers on this node.
#[derive(Default)]
pub(super) struct Members {
    followers: HashMap<u64, Member>,
    guards: HashMap<u64, Member>,
    /// Some are, or were, pushed these forms.
    has_matches: bool,
    has_deflated: bool,
    next: Vec<Next>,
}

impl Members {
    /// A socket is pushed the channel's events from now on.
    pub(super) fn follow(&mut self, connection: u64, member: Member) {
        self.has_matches |= member.outbox.form() == Form::Match;
        self.has_deflated |= member.outbox.form() == Form::Deflated;
        self.followers.insert(connection, member);
    }

    /// A socket is told when its right ends.
    pub(super) fn guard(&mut self, connection: u64, member: Member) {
        self.guards.insert(connection, member);
    }

    /// A socket is not here any more by what its frames up to that one had asked; as a guard, or as one
    /// that is pushed to.
    pub(super) fn remove(&mut self, connection: u64, frame: u64, guard: bool) {
        let sockets = if guard { &mut self.guards } else { &mut self.followers };
        if sockets.get(&connection).is_some_and(|member| member.frame <= frame) {
            sockets.remove(&connection);
        }
    }

    /// A socket goes on as another caller. Answers whether it is here.
    pub(super) fn change_caller(&mut self, connection: u64, caller: &Caller) -> bool {
        let mut is_here = false;
        for sockets in [&mut self.followers, &mut self.guards] {
            if let Some(member) = sockets.get_mut(&connection) {
                member.caller = caller.clone();
                is_here = true;
            }
        }
        is_here
    }

    pub(super) fn is_empty(&self) -> bool {
        self.followers.is_empty() && self.guards.is_empty()
    }

    /// Whether a socket is pushed this channel's events.
    pub(super) fn has(&self, connection: u64) -> bool {
        self.followers.contains_key(&connection)
    }

    /// Whether somebody may be pushed that form.
    pub(super) const fn takes(&self, form: Form) -> bool {
        match form {
            Form::Native => true,
            Form::Deflated => self.has_deflated,
            Form::Match => self.has_matches,
        }
    }

    /// This is sent next, with all that is.
    pub(super) fn send_next(&mut self, next: Next) {
        if !self.followers.is_empty() {
            self.next.push(next);
        }
    }

    /// Sends each what it gets of what is next, all at once.
    pub(super) fn send(&mut self) -> Sent {
        let mut sent = Sent::default();
        let next = std::mem::take(&mut self.next);
        let mut frames = Vec::with_capacity(next.len());
        for (connection, member) in &self.followers {
            frames.clear();
            frames.extend(next.iter().filter_map(|next| next.frame(member)));
            if frames.is_empty() {
                continue;
            }
            if member.outbox.deliver(&frames) {
                sent.frames += frames.len();
                sent.bytes += frames.iter().map(|frame| frame.len()).sum::<usize>();
            } else {
                sent.gone.push(*connection);
            }
        }
        sent
    }

    /// Closes those who lack an event and have been sent later ones: they resume from a position before it.
    /// Answers how many.
    pub(super) fn close_lacking(&mut self, event: &Next, position: &Bytes) -> usize {
        let before = self.followers.len();
        self.followers.retain(|_, member| {
            let has_it = event.frame(member).is_none();
            if !has_it {
                member.outbox.close_to_heal(position);
            }
            has_it
        });
        before - self.followers.len()
    }

    /// Pushes what is not stored.
    pub(super) fn push_unstored(&self, frame: &Bytes) {
        for member in self.followers.values() {
            member.outbox.push_unstored(frame);
        }
    }

    /// Ends the right of those whom it concerns, where it was granted before that event.
    pub(super) fn end(&mut self, channel: &Channel, seq: u64, whom: impl Fn(&Caller) -> bool) {
        let mut stays = |_: &u64, member: &mut Member| {
            let ends = member.as_of < seq && whom(&member.caller);
            if ends {
                member.outbox.evict(channel.clone(), member.frame);
            }
            !ends
        };
        self.followers.retain(&mut stays);
        self.guards.retain(stays);
    }

    /// Everyone whose right counts here, each once.
    pub(super) fn callers(&self) -> HashSet<Caller> {
        self.followers.values().chain(self.guards.values()).map(|member| member.caller.clone()).collect()
    }

    /// All sockets.
    pub(super) fn outboxes(&self) -> impl Iterator<Item = &Arc<Outbox>> {
        self.followers.values().chain(self.guards.values()).map(|member| &member.outbox)
    }
}
