//! What one socket has received of each writer: in order, each once, nothing left out.
//!
//! What must hold: everything that was acknowledged after the socket was let in has to come; what was on
//! its way then may come; what was refused need not, and nothing may come twice or late.

use std::{collections::HashSet, fmt, ops::Range};

/// What went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Faults {
    /// Never came.
    pub(crate) lost: u64,
    /// Came again.
    pub(crate) twice: u64,
    /// Came after a later one.
    pub(crate) late: u64,
    /// Came to a socket that it was not for.
    pub(crate) astray: u64,
    /// Sockets that the server closed, or that broke.
    pub(crate) closed: u64,
}

impl Faults {
    /// Whether anything did.
    pub(crate) fn any(self) -> bool {
        self != Self::default()
    }

    /// Adds others.
    pub(crate) const fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.twice += other.twice;
        self.late += other.late;
        self.astray += other.astray;
        self.closed += other.closed;
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, twice, late, astray, closed } = self;
        write!(f, "{lost} lost, {twice} twice, {late} out of order, {astray} astray, {closed} sockets closed")
    }
}

/// A writer: what it has sent, and what of it was not taken.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Sequences from 1 to this were sent.
    pub(crate) sent: u64,
    /// Sequences that were refused, or of which nobody knows.
    pub(crate) refused: HashSet<u64>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    /// The highest that has come.
    last: u64,
    /// What was sent up to here was not promised.
    floor: u64,
    /// What was passed over.
    holes: Vec<u64>,
}

/// What one socket has received.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// The first stream of its room.
    first: usize,
    seen: Vec<Seen>,
    faults: Faults,
}

impl Tracker {
    /// A socket that is promised nothing yet of these streams.
    pub(crate) fn new(streams: Range<usize>) -> Self {
        Self { first: streams.start, seen: vec![Seen::default(); streams.len()], faults: Faults::default() }
    }

    /// It was let in: what is sent from now on must come.
    pub(crate) fn promise(&mut self, streams: &[Stream]) {
        for (seen, stream) in self.seen.iter_mut().zip(&streams[self.first..]) {
            seen.floor = stream.sent;
        }
    }

    /// It asks to leave: what is on its way now, or sent until the next promise, need not come.
    pub(crate) fn release(&mut self, streams: &[Stream]) {
        for (seen, stream) in self.seen.iter_mut().zip(&streams[self.first..]) {
            let holes = seen.holes.drain(..);
            self.faults.lost += holes.filter(|seq| !stream.refused.contains(seq)).count() as u64;
            seen.floor = u64::MAX;
        }
    }

    /// A message has come. What was not acknowledged may come late: nobody was told its place.
    pub(crate) fn take(&mut self, streams: &[Stream], stream: u32, seq: u64) {
        let index = (stream as usize).checked_sub(self.first);
        let Some(seen) = index.and_then(|index| self.seen.get_mut(index)) else {
            self.faults.astray += 1;
            return;
        };
        if seq <= seen.last {
            match seen.holes.iter().position(|hole| *hole == seq) {
                Some(hole) => {
                    seen.holes.swap_remove(hole);
                    self.faults.late += u64::from(!streams[stream as usize].refused.contains(&seq));
                }
                None => self.faults.twice += 1,
            }
            return;
        }
        if seq > seen.last + 1 {
            seen.holes.extend(seen.last.max(seen.floor).saturating_add(1)..seq);
        }
        seen.last = seq;
    }

    /// Whether all that was taken has come.
    pub(crate) fn is_complete(&self, streams: &[Stream]) -> bool {
        self.seen.iter().zip(&streams[self.first..]).all(|(seen, stream)| {
            let from = seen.last.max(seen.floor).saturating_add(1);
            (from..=stream.sent).all(|seq| stream.refused.contains(&seq))
        })
    }

    /// What went wrong since this was last asked: what is missing now is lost, unless it was refused. It is
    /// promised nothing any more.
    pub(crate) fn finish(&mut self, streams: &[Stream]) -> Faults {
        for (seen, stream) in self.seen.iter_mut().zip(&streams[self.first..]) {
            seen.holes.extend(seen.last.max(seen.floor).saturating_add(1)..=stream.sent);
        }
        self.release(streams);
        std::mem::take(&mut self.faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(sent: u64) -> Vec<Stream> {
        vec![Stream { sent: 1_000, ..Stream::default() }, Stream { sent, ..Stream::default() }]
    }

    fn faults(seqs: &[u64], streams: &[Stream]) -> Faults {
        let mut tracker = Tracker::new(1..2);
        seqs.iter().for_each(|seq| tracker.take(streams, 1, *seq));
        tracker.finish(streams)
    }

    #[test]
    fn all_in_order_is_right() {
        assert!(!faults(&[1, 2, 3], &sent(3)).any());
    }

    #[test]
    fn what_is_left_out_is_lost_in_the_middle_and_at_the_end() {
        assert_eq!(faults(&[1, 3], &sent(3)), Faults { lost: 1, ..Faults::default() });
        assert_eq!(faults(&[1], &sent(3)), Faults { lost: 2, ..Faults::default() });
        assert_eq!(faults(&[], &sent(3)), Faults { lost: 3, ..Faults::default() });
    }

    #[test]
    fn what_comes_twice_or_late_is_seen() {
        assert_eq!(faults(&[1, 2, 2, 3], &sent(3)), Faults { twice: 1, ..Faults::default() });
        assert_eq!(faults(&[1, 3, 2], &sent(3)), Faults { late: 1, ..Faults::default() });
        assert_eq!(faults(&[1, 3, 2, 2], &sent(3)), Faults { late: 1, twice: 1, ..Faults::default() });
    }

    #[test]
    fn what_was_refused_need_not_come() {
        let mut streams = sent(3);
        streams[1].refused.extend([2, 3]);
        assert!(!faults(&[1], &streams).any());
        assert!(!faults(&[1, 3, 2], &streams).any(), "it was promised no place");
        assert_eq!(faults(&[1, 2, 2], &streams), Faults { twice: 1, ..Faults::default() });
    }

    #[test]
    fn anothers_messages_are_astray() {
        let mut tracker = Tracker::new(1..2);
        tracker.take(&sent(0), 0, 1);
        tracker.take(&sent(0), 2, 1);
        assert_eq!(tracker.finish(&sent(0)), Faults { astray: 2, ..Faults::default() });
    }

    #[test]
    fn what_was_on_its_way_may_come_and_what_is_sent_later_must() {
        let mut tracker = Tracker::new(1..2);
        tracker.promise(&sent(5));
        tracker.take(&sent(6), 1, 5);
        tracker.take(&sent(6), 1, 6);
        assert!(tracker.is_complete(&sent(6)) && !tracker.is_complete(&sent(7)));
        assert_eq!(tracker.finish(&sent(7)), Faults { lost: 1, ..Faults::default() });

        let mut tracker = Tracker::new(1..2);
        tracker.promise(&sent(5));
        tracker.take(&sent(8), 1, 8);
        assert_eq!(tracker.finish(&sent(8)), Faults { lost: 2, ..Faults::default() });
    }

    #[test]
    fn while_it_is_away_nothing_is_lost() {
        let mut tracker = Tracker::new(1..2);
        tracker.promise(&sent(0));
        tracker.take(&sent(1), 1, 1);
        // The second is on its way.
        tracker.release(&sent(2));
        tracker.promise(&sent(4));
        tracker.take(&sent(5), 1, 5);
        assert!(!tracker.finish(&sent(5)).any());
    }
}
