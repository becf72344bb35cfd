//! The sockets of one channel: those that are pushed its events, and those that only guard a right.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use shared::{rules::Caller, subject::Channel};

use crate::{render::Rendered, session::outbox::Outbox};

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

/// What was queued for whom.
#[derive(Default)]
pub(super) struct Queued {
    pub(super) frames: u64,
    pub(super) bytes: u64,
    /// Sockets that take nothing more.
    pub(super) gone: Vec<u64>,
}

/// The sockets of one channel, by their numbers on this node.
#[derive(Default)]
pub(super) struct Members {
    followers: HashMap<u64, Member>,
    guards: HashMap<u64, Member>,
}

impl Members {
    /// A socket is pushed the channel's events from now on.
    pub(super) fn follow(&mut self, connection: u64, member: Member) {
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

    pub(super) fn is_empty(&self) -> bool {
        self.followers.is_empty() && self.guards.is_empty()
    }

    /// Whether a socket is pushed this channel's events.
    pub(super) fn has(&self, connection: u64) -> bool {
        self.followers.contains_key(&connection)
    }

    /// Queues an event for those whom it concerns and who have not got it.
    pub(super) fn queue(&self, seq: u64, rendered: &Rendered<'_>, whom: impl Fn(&Member) -> bool) -> Queued {
        let mut queued = Queued::default();
        for (connection, member) in &self.followers {
            if seq <= member.from || !whom(member) {
                continue;
            }
            let Some(frame) = rendered.frame(member.outbox.form()) else { continue };
            if member.outbox.queue(frame.clone()) {
                queued.frames += 1;
                queued.bytes += frame.len() as u64;
            } else {
                queued.gone.push(*connection);
            }
        }
        queued
    }

    /// Has every socket write what waits for it.
    pub(super) fn write_now(&self) {
        for member in self.followers.values() {
            member.outbox.write_now();
        }
    }

    /// Pushes what is not stored.
    pub(super) fn push_unstored(&self, frame: &Bytes) {
        for member in self.followers.values() {
            member.outbox.push_unstored(frame.clone());
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

    /// Everyone who is pushed to, each once.
    pub(super) fn callers(&self) -> Vec<Caller> {
        let mut callers: Vec<Caller> = self.followers.values().map(|member| member.caller.clone()).collect();
        callers.sort_by(|a, b| (&a.user, a.is_admin).cmp(&(&b.user, b.is_admin)));
        callers.dedup();
        callers
    }

    /// All sockets.
    pub(super) fn outboxes(&self) -> impl Iterator<Item = &Arc<Outbox>> {
        self.followers.values().chain(self.guards.values()).map(|member| &member.outbox)
    }
}
