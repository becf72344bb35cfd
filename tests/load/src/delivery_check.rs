//! Checks what one socket receives from each writer: in order, each message once, none missing.
//!
//! What must hold: every message sent after the socket joined must arrive, unless the server refused it. Messages
//! sent before the join may arrive. No message may arrive twice; none that was accepted may arrive after a later one.

use std::{collections::HashSet, fmt, ops::Range};

/// Counts of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Faults {
    /// Messages that never arrived.
    pub(crate) lost: u64,
    /// Messages that arrived more than once.
    pub(crate) twice: u64,
    /// Messages that arrived after a later one.
    pub(crate) late: u64,
    /// Messages that arrived at sockets of other rooms.
    pub(crate) wrong_room: u64,
    /// Sockets that the server closed, or that failed.
    pub(crate) closed: u64,
    /// Sockets, and lists of rooms, with wrong participants.
    pub(crate) wrong_participants: u64,
}

impl Faults {
    /// Whether there are any faults.
    pub(crate) fn has_any(self) -> bool {
        self != Self::default()
    }

    /// Adds other counts.
    pub(crate) const fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.twice += other.twice;
        self.late += other.late;
        self.wrong_room += other.wrong_room;
        self.closed += other.closed;
        self.wrong_participants += other.wrong_participants;
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, twice, late, wrong_room, closed, wrong_participants } = self;
        write!(
            f,
            "{lost} lost, {twice} twice, {late} out of order, {wrong_room} in the wrong room, {closed} sockets closed"
        )?;
        if *wrong_participants > 0 {
            write!(f, ", {wrong_participants} wrong lists of participants")?;
        }
        Ok(())
    }
}

/// A writer: the messages that it has sent, and those that the server did not accept.
#[derive(Debug, Default)]
pub(crate) struct WriterState {
    /// The last sequence sent; the first is 1.
    pub(crate) sent_up_to: u64,
    /// Sequences that were refused, or whose outcome is unknown.
    pub(crate) refused_seqs: HashSet<u64>,
}

#[derive(Clone, Debug, Default)]
struct ReceivedFromWriter {
    /// The highest sequence that has arrived.
    highest_seq: u64,
    /// Sequences up to this one need not arrive: they were sent while the socket was not joined.
    not_promised_up_to: u64,
    /// Sequences below the highest that must arrive and have not.
    skipped_seqs: Vec<u64>,
}

/// The deliveries to one socket.
#[derive(Debug, Default)]
pub(crate) struct DeliveryTracker {
    /// The first writer of the socket's room.
    first_writer: usize,
    received: Vec<ReceivedFromWriter>,
    faults: Faults,
}

impl DeliveryTracker {
    /// A tracker for a socket of the room with these writers.
    pub(crate) fn new(writers: Range<usize>) -> Self {
        Self {
            first_writer: writers.start,
            received: vec![ReceivedFromWriter::default(); writers.len()],
            faults: Faults::default(),
        }
    }

    /// The socket has joined: messages sent from now on must arrive.
    pub(crate) fn expect_from_now(&mut self, writers: &[WriterState]) {
        for (received, writer) in self.received.iter_mut().zip(&writers[self.first_writer..]) {
            received.not_promised_up_to = writer.sent_up_to;
        }
    }

    /// The socket leaves: messages on their way, and those sent until the next `expect_from_now`, need not arrive.
    /// Messages that were skipped count as lost, unless they were refused.
    pub(crate) fn stop_expecting(&mut self, writers: &[WriterState]) {
        for (received, writer) in self.received.iter_mut().zip(&writers[self.first_writer..]) {
            let lost = received.skipped_seqs.drain(..).filter(|seq| !writer.refused_seqs.contains(seq));
            self.faults.lost += lost.count() as u64;
            received.not_promised_up_to = u64::MAX;
        }
    }

    /// Records a delivery. A message that was not acknowledged may arrive late.
    pub(crate) fn record_received(&mut self, writers: &[WriterState], writer: u32, seq: u64) {
        let index = (writer as usize).checked_sub(self.first_writer);
        let Some(received) = index.and_then(|index| self.received.get_mut(index)) else {
            self.faults.wrong_room += 1;
            return;
        };
        if seq <= received.highest_seq {
            match received.skipped_seqs.iter().position(|skipped| *skipped == seq) {
                Some(skipped) => {
                    received.skipped_seqs.swap_remove(skipped);
                    self.faults.late += u64::from(!writers[writer as usize].refused_seqs.contains(&seq));
                }
                None => self.faults.twice += 1,
            }
            return;
        }
        if seq > received.highest_seq + 1 {
            received
                .skipped_seqs
                .extend(received.highest_seq.max(received.not_promised_up_to).saturating_add(1)..seq);
        }
        received.highest_seq = seq;
    }

    /// Whether every message that was accepted has arrived, skipped ones aside.
    pub(crate) fn is_complete(&self, writers: &[WriterState]) -> bool {
        self.received.iter().zip(&writers[self.first_writer..]).all(|(received, writer)| {
            let from = received.highest_seq.max(received.not_promised_up_to).saturating_add(1);
            (from..=writer.sent_up_to).all(|seq| writer.refused_seqs.contains(&seq))
        })
    }

    /// Takes the faults since the last call. Messages that have not arrived count as lost. Afterwards nothing is
    /// expected until `expect_from_now`.
    pub(crate) fn take_faults(&mut self, writers: &[WriterState]) -> Faults {
        for (received, writer) in self.received.iter_mut().zip(&writers[self.first_writer..]) {
            received.skipped_seqs.extend(
                received.highest_seq.max(received.not_promised_up_to).saturating_add(1)..=writer.sent_up_to,
            );
        }
        self.stop_expecting(writers);
        std::mem::take(&mut self.faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(sent_up_to: u64) -> Vec<WriterState> {
        vec![
            WriterState { sent_up_to: 1_000, ..WriterState::default() },
            WriterState { sent_up_to, ..WriterState::default() },
        ]
    }

    fn faults(seqs: &[u64], writers: &[WriterState]) -> Faults {
        let mut tracker = DeliveryTracker::new(1..2);
        seqs.iter().for_each(|seq| tracker.record_received(writers, 1, *seq));
        tracker.take_faults(writers)
    }

    #[test]
    fn deliveries_in_order_pass() {
        assert!(!faults(&[1, 2, 3], &sent(3)).has_any());
    }

    #[test]
    fn missing_deliveries_are_lost_in_the_middle_and_at_the_end() {
        assert_eq!(faults(&[1, 3], &sent(3)), Faults { lost: 1, ..Faults::default() });
        assert_eq!(faults(&[1], &sent(3)), Faults { lost: 2, ..Faults::default() });
        assert_eq!(faults(&[], &sent(3)), Faults { lost: 3, ..Faults::default() });
    }

    #[test]
    fn repeated_or_late_delivery_is_reported() {
        assert_eq!(faults(&[1, 2, 2, 3], &sent(3)), Faults { twice: 1, ..Faults::default() });
        assert_eq!(faults(&[1, 3, 2], &sent(3)), Faults { late: 1, ..Faults::default() });
        assert_eq!(faults(&[1, 3, 2, 2], &sent(3)), Faults { late: 1, twice: 1, ..Faults::default() });
    }

    #[test]
    fn refused_message_need_not_be_delivered() {
        let mut writers = sent(3);
        writers[1].refused_seqs.extend([2, 3]);
        assert!(!faults(&[1], &writers).has_any());
        assert!(!faults(&[1, 3, 2], &writers).has_any(), "a refused message may arrive late");
        assert_eq!(faults(&[1, 2, 2], &writers), Faults { twice: 1, ..Faults::default() });
    }

    #[test]
    fn messages_of_other_rooms_are_astray() {
        let mut tracker = DeliveryTracker::new(1..2);
        tracker.record_received(&sent(0), 0, 1);
        tracker.record_received(&sent(0), 2, 1);
        assert_eq!(tracker.take_faults(&sent(0)), Faults { wrong_room: 2, ..Faults::default() });
    }

    #[test]
    fn message_sent_before_a_join_may_be_delivered_and_a_later_one_must() {
        let mut tracker = DeliveryTracker::new(1..2);
        tracker.expect_from_now(&sent(5));
        tracker.record_received(&sent(6), 1, 5);
        tracker.record_received(&sent(6), 1, 6);
        assert!(tracker.is_complete(&sent(6)) && !tracker.is_complete(&sent(7)));
        assert_eq!(tracker.take_faults(&sent(7)), Faults { lost: 1, ..Faults::default() });

        let mut tracker = DeliveryTracker::new(1..2);
        tracker.expect_from_now(&sent(5));
        tracker.record_received(&sent(8), 1, 8);
        assert_eq!(tracker.take_faults(&sent(8)), Faults { lost: 2, ..Faults::default() });
    }

    #[test]
    fn message_sent_before_a_leave_may_be_delivered_and_a_gap_is_lost() {
        let mut tracker = DeliveryTracker::new(1..2);
        tracker.expect_from_now(&sent(0));
        tracker.record_received(&sent(4), 1, 1);
        tracker.stop_expecting(&sent(4));
        tracker.record_received(&sent(4), 1, 2);
        tracker.expect_from_now(&sent(4));
        assert!(!tracker.take_faults(&sent(4)).has_any());

        tracker.expect_from_now(&sent(4));
        tracker.record_received(&sent(6), 1, 6);
        tracker.stop_expecting(&sent(7));
        assert_eq!(tracker.take_faults(&sent(7)), Faults { lost: 1, ..Faults::default() });
    }

    #[test]
    fn messages_while_a_client_is_away_are_not_lost() {
        let mut tracker = DeliveryTracker::new(1..2);
        tracker.expect_from_now(&sent(0));
        tracker.record_received(&sent(1), 1, 1);
        tracker.stop_expecting(&sent(1));
        tracker.expect_from_now(&sent(4));
        tracker.record_received(&sent(5), 1, 5);
        assert!(!tracker.take_faults(&sent(5)).has_any());
    }
}
