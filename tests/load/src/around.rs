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
}

impl Around<'_> {
    /// A message was taken, or it was not.
    pub(crate) fn answered(&mut self, of: Waiting, taken: bool, now: u64) {
        if taken {
            self.tally.acknowledged(of.due, now);
        } else {
            self.streams[of.stream].refused.insert(of.seq);
        }
        self.free.push(of.stream);
    }
}
