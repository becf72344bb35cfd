//! What all connections of a run share while they are read.

use crate::{delivery_check::WriterState, measurements::Measurements, server::TestedServer};

/// A message that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingMessage {
    /// Its number of all.
    pub(crate) number: u64,
    /// Who wrote it.
    pub(crate) writer: usize,
    /// The writer's how-manieth it is.
    pub(crate) seq: u64,
    /// When it was due.
    pub(crate) due_ns: u64,
}

/// What they share.
pub(crate) struct RunContext<'a> {
    pub(crate) server: &'a dyn TestedServer,
    /// The writers.
    pub(crate) writers: Vec<WriterState>,
    /// Those whose last message was answered.
    pub(crate) idle_writers: Vec<usize>,
    pub(crate) measurements: Measurements,
    /// When each socket last asked into its room or out of it.
    pub(crate) asked_at_ns: Vec<u64>,
    /// Whether sockets remember where they are, to come back there.
    pub(crate) keeps_positions: bool,
    /// Whether sockets remember who is in their room with them.
    pub(crate) tracks_participants: bool,
    /// What the server refused as too much (429).
    pub(crate) rate_limited: u64,
}

/// Whether a message was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostOutcome {
    /// It was.
    Accepted,
    /// It was not.
    Refused,
    /// It was not, by a limit of the server.
    RateLimited,
}

impl PostOutcome {
    /// What a status says.
    pub(crate) const fn from_status(status: u64) -> Self {
        match status {
            200..300 => Self::Accepted,
            429 => Self::RateLimited,
            _ => Self::Refused,
        }
    }
}

impl RunContext<'_> {
    /// A message was taken, or it was not.
    pub(crate) fn note_answer(&mut self, message: PendingMessage, outcome: PostOutcome, now: u64) {
        if outcome == PostOutcome::Accepted {
            self.measurements.note_ack(message.due_ns, now);
        } else {
            self.writers[message.writer].refused_seqs.insert(message.seq);
            self.rate_limited += u64::from(outcome == PostOutcome::RateLimited);
        }
        self.idle_writers.push(message.writer);
    }
}
