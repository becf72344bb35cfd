//! One channel on this node: its followers, its recent events, and how far it is heard.
//!
//! What must hold: events reach followers in the log's order, each at most once. What is at or
//! below `last` has been pushed, or lies before everyone's beginning here.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use metrics::Counter;
use shared::{metric_names as names, subject::Channel};
use tokio::{sync::oneshot, time::Instant};

use super::ring::Ring;
use crate::{render::native, session::outbox::Outbox};

/// How long a channel that nobody follows is still heard: whoever comes back finds it warm.
const LINGER: Duration = Duration::from_secs(30);

/// Makes the frame that answers a follower, once it is known where it begins.
pub(crate) type Answer = Box<dyn FnOnce(&Followed) -> Bytes + Send>;

/// A socket that asks to follow a channel.
pub(crate) struct Follower {
    /// The socket's number on this node.
    pub(crate) connection: u64,
    /// Where its frames go.
    pub(crate) outbox: Arc<Outbox>,
    /// The last event the client has.
    pub(crate) since: Option<u64>,
    /// The epoch it got it in.
    pub(crate) epoch: Option<u64>,
    /// Its answer: pushed before all events.
    pub(crate) answer: Answer,
    /// Resolves once it follows; dropped where it can't.
    pub(crate) done: oneshot::Sender<()>,
}

/// Where a follower begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Followed {
    /// The channel's stream, as its place in lists of all.
    pub(crate) shard: usize,
    /// The epoch of its stream.
    pub(crate) epoch: u64,
    /// Everything after this is pushed.
    pub(crate) id: u64,
    /// Whether nothing is missing between what the client has and what it is pushed.
    pub(crate) recovered: bool,
}

struct Member {
    outbox: Arc<Outbox>,
    /// The client has everything up to here already.
    from: u64,
}

/// Handles of metrics that every delivery touches.
#[derive(Clone)]
pub(crate) struct Deliveries {
    pub(crate) frames: Counter,
    pub(crate) bytes: Counter,
    pub(crate) overflows: Counter,
}

impl Deliveries {
    /// Handles of the recorder that is installed now.
    pub(crate) fn new() -> Self {
        Self {
            frames: metrics::counter!(names::DELIVERIES_TOTAL),
            bytes: metrics::counter!(names::DELIVERED_BYTES_TOTAL),
            overflows: metrics::counter!(names::OUTBOX_OVERFLOWS_TOTAL),
        }
    }
}

/// A channel that is heard.
pub(crate) struct Heard {
    pub(crate) ring: Ring,
    pub(crate) last: u64,
    pub(crate) epoch: u64,
    /// Where it began: what lies before is nobody's gap here.
    began: u64,
    /// The last event of each name, as the broker chains them.
    chain: HashMap<String, u64>,
    /// Followers that wait until the log was read back to what they have.
    pub(crate) resuming: Vec<Follower>,
    pub(crate) reading: bool,
    members: HashMap<u64, Member>,
    idle_since: Option<Instant>,
    /// Ends the subscription when dropped.
    _interest: oneshot::Sender<()>,
}

impl Heard {
    /// A channel that is complete from `last` on.
    pub(crate) fn new(last: u64, epoch: u64, interest: oneshot::Sender<()>) -> Self {
        Self {
            ring: Ring::new(last),
            last,
            epoch,
            began: last,
            chain: HashMap::new(),
            resuming: Vec::new(),
            reading: false,
            members: HashMap::new(),
            idle_since: Some(Instant::now()),
            _interest: interest,
        }
    }

    /// Lets a follower in: its answer, what it missed, then everything as it comes. `recovered`
    /// is false where what it missed can't be had.
    pub(crate) fn admit(&mut self, shard: usize, follower: Follower, recovered: bool) {
        let since = follower.since.filter(|_| recovered);
        // A client may be ahead of this node: what it has already is not pushed again.
        let from = since.unwrap_or(self.last);
        let followed = Followed { shard, epoch: self.epoch, id: from, recovered };
        let mut open = follower.outbox.push((follower.answer)(&followed));
        if let Some(since) = since {
            for frame in self.ring.after(since) {
                open = open && follower.outbox.push(frame.clone());
            }
        }
        let outcome = match (follower.since, recovered) {
            (None, _) => "new",
            (Some(_), true) => "recovered",
            (Some(_), false) => "lost",
        };
        metrics::counter!(names::RESUMES_TOTAL, "outcome" => outcome).increment(1);
        if open {
            self.members.insert(follower.connection, Member { outbox: follower.outbox, from });
            self.idle_since = None;
        }
        // The session may be gone meanwhile: its own end has removed it.
        let _ = follower.done.send(());
    }

    /// A socket does not follow any more.
    pub(crate) fn remove(&mut self, connection: u64) {
        self.members.remove(&connection);
        self.resuming.retain(|follower| follower.connection != connection);
        if self.members.is_empty() && self.resuming.is_empty() {
            self.idle_since.get_or_insert_with(Instant::now);
        }
    }

    /// Whether nobody has followed it for long.
    pub(crate) fn is_stale(&self) -> bool {
        self.idle_since.is_some_and(|since| since.elapsed() > LINGER)
    }

    /// The last event of that name that came before, where the broker names a later one: what
    /// lies between was lost on its way to this node.
    pub(crate) fn gap(&self, event: &str, before: u64) -> Option<u64> {
        let known = self.chain.get(event).copied().unwrap_or(self.began);
        (before > known).then_some(known)
    }

    /// Pushes an event to everyone, once: one that is known already does nothing.
    pub(crate) fn deliver(
        &mut self,
        channel: &Channel,
        event: &str,
        seq: u64,
        payload: &[u8],
        to: &Deliveries,
    ) {
        if seq <= self.last {
            return;
        }
        self.last = seq;
        match self.chain.get_mut(event) {
            Some(last) => *last = seq,
            None => drop(self.chain.insert(event.to_owned(), seq)),
        }
        let Some(frame) = native::push(channel, event, seq, payload) else { return };
        if native::is_replayed(event) {
            self.ring.push(seq, frame.clone());
        }
        let (mut frames, mut gone) = (0, Vec::new());
        for (connection, member) in &self.members {
            if seq <= member.from {
                continue;
            }
            if member.outbox.push(frame.clone()) {
                frames += 1;
            } else {
                gone.push(*connection);
            }
        }
        to.frames.increment(frames);
        to.bytes.increment(frames * frame.len() as u64);
        to.overflows.increment(gone.len() as u64);
        for connection in gone {
            self.remove(connection);
        }
    }

    /// All sockets that follow it.
    pub(crate) fn outboxes(&self) -> impl Iterator<Item = &Arc<Outbox>> {
        self.members.values().map(|member| &member.outbox)
    }
}
