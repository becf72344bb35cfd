//! Holds the state that all connections of a run share.

use crate::{delivery_check::WriterState, measurements::Measurements, server::TestedServer};

/// A message that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingMessage {
    /// The message's number among all messages sent.
    pub(crate) number: u64,
    /// The writer's number.
    pub(crate) writer: usize,
    /// The number of the message among those of its writer, from 1.
    pub(crate) seq: u64,
    /// When the message was due, in nanoseconds since 1970.
    pub(crate) due_ns: u64,
}

/// The state that all connections of a run share.
pub(crate) struct RunContext<'a> {
    pub(crate) server: &'a dyn TestedServer,
    /// The writers of all rooms.
    pub(crate) writers: Vec<WriterState>,
    /// Writers whose last message was answered.
    pub(crate) idle_writers: Vec<usize>,
    pub(crate) measurements: Measurements,
    /// When each socket last sent a join or a leave, in nanoseconds since 1970.
    pub(crate) requested_at_ns: Vec<u64>,
    /// Whether sockets keep their positions, to resume after a reconnect.
    pub(crate) keeps_positions: bool,
    /// Whether sockets track the participants of their rooms.
    pub(crate) tracks_participants: bool,
    /// Number of requests that the server refused with 429.
    pub(crate) rate_limited: u64,
}

/// Whether the server accepted a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostOutcome {
    /// The server accepted it.
    Accepted,
    /// The server refused it.
    Refused,
    /// The server refused it because of a rate limit.
    RateLimited,
}

impl PostOutcome {
    /// The outcome for an HTTP status.
    pub(crate) const fn from_status(status: u64) -> Self {
        match status {
            200..300 => Self::Accepted,
            429 => Self::RateLimited,
            _ => Self::Refused,
        }
    }
}

impl RunContext<'_> {
    /// Records the answer to a message.
    pub(crate) fn record_answer(&mut self, message: PendingMessage, outcome: PostOutcome, now: u64) {
        if outcome == PostOutcome::Accepted {
            self.measurements.record_ack(message.due_ns, now);
        } else {
            self.writers[message.writer].refused_seqs.insert(message.seq);
            self.rate_limited += u64::from(outcome == PostOutcome::RateLimited);
        }
        self.idle_writers.push(message.writer);
    }
}
