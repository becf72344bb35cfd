//! What all connections of a run share while they are read.

use crate::{check::Stream, peer::Peer, tally::Tally};

/// A message that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// Its number of all.
    pub(crate) number: u64,
    /// Who wrote it.
    pub(crate) stream: usize,
    /// The writer's how-manieth it is.
    pub(crate) seq: u64,
    /// When it was due.
    pub(crate) due: u64,
}

/// What they share.
pub(crate) struct Around<'a> {
    pub(crate) peer: &'a dyn Peer,
    /// The writers.
    pub(crate) streams: Vec<Stream>,
    /// Those whose last message was answered.
    pub(crate) free: Vec<usize>,
    pub(crate) tally: Tally,
    /// When each socket last asked into its room or out of it.
    pub(crate) asked: Vec<u64>,
    /// Whether sockets remember where they are, to come back there.
    pub(crate) keeps_places: bool,
    /// Whether sockets remember who is in their room with them.
    pub(crate) keeps_company: bool,
    /// What the server refused as too much (429).
    pub(crate) limited: u64,
}

/// Whether a message was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was.
    Taken,
    /// It was not.
    Refused,
    /// It was not, by a limit of the server.
    Limited,
}

impl Outcome {
    /// What a status says.
    pub(crate) const fn of(status: u64) -> Self {
        match status {
            200..300 => Self::Taken,
            429 => Self::Limited,
            _ => Self::Refused,
        }
    }
}

impl Around<'_> {
    /// A message was taken, or it was not.
    pub(crate) fn answered(&mut self, of: Waiting, outcome: Outcome, now: u64) {
        if outcome == Outcome::Taken {
            self.tally.acknowledged(of.due, now);
        } else {
            self.streams[of.stream].refused.insert(of.seq);
            self.limited += u64::from(outcome == Outcome::Limited);
        }
        self.free.push(of.stream);
    }
}
