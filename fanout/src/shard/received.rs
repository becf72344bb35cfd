//! Remembers which events of a shard were received, above the position up to which all were received for
//! complete_up_to.
//!
//! What must hold: an event that was not received is never taken for one that was. An event is one bit; above a
//! bound the oldest bits are forgotten, and their events count as not received.

use std::collections::VecDeque;

/// The most words of 64 events: 256 KiB, far more than a shard stores before its position moves on.
const WORDS_MAX: usize = 1 << 15;

/// The events that were received, by their sequences.
#[derive(Debug, Default)]
pub(super) struct ReceivedSet {
    /// Everything up to this event was received.
    complete_up_to: u64,
    /// The first bit is that of the event after this.
    base: u64,
    bits: VecDeque<u64>,
}

impl ReceivedSet {
    /// Forgets everything: from now on all events up to `complete_up_to` count as received, and no others.
    pub(super) fn reset(&mut self, complete_up_to: u64) {
        *self = Self { complete_up_to, base: complete_up_to, bits: VecDeque::new() };
    }

    /// Notes that everything up to `complete_up_to` was received: these events need no bits any more.
    pub(super) fn mark_complete_up_to(&mut self, complete_up_to: u64) {
        self.complete_up_to = self.complete_up_to.max(complete_up_to);
        while self.base + 64 <= self.complete_up_to && self.bits.pop_front().is_some() {
            self.base += 64;
        }
        if self.bits.is_empty() && self.base < self.complete_up_to {
            self.reset(self.complete_up_to);
        }
    }

    /// An event was received.
    pub(super) fn insert(&mut self, seq: u64) {
        let Some((word, bit)) = self.word_and_bit(seq) else { return };
        match self.bits.get_mut(word) {
            Some(bits) => *bits |= bit,
            None => self.insert_newest(seq),
        }
    }

    /// Whether an event was received. False also where that is not known any more.
    pub(super) fn contains(&self, seq: u64) -> bool {
        let is_set = |(word, bit)| self.bits.get(word).is_some_and(|bits| bits & bit != 0);
        seq <= self.complete_up_to || self.word_and_bit(seq).is_some_and(is_set)
    }

    /// The position of an event's bit, even if there is no such word yet. `None` if it is forgotten.
    fn word_and_bit(&self, seq: u64) -> Option<(usize, u64)> {
        let offset = seq.checked_sub(self.base + 1)?;
        Some((usize::try_from(offset / 64).unwrap_or(usize::MAX), 1 << (offset % 64)))
    }

    /// An event that is newer than any before.
    #[cold]
    fn insert_newest(&mut self, seq: u64) {
        let words = (seq - self.base).div_ceil(64);
        let surplus = words.saturating_sub(WORDS_MAX as u64);
        let dropped = usize::try_from(surplus).unwrap_or(usize::MAX).min(self.bits.len());
        self.bits.drain(..dropped);
        self.base += surplus * 64;
        if let Some((word, bit)) = self.word_and_bit(seq) {
            self.bits.resize(word + 1, 0);
            self.bits[word] |= bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn received_set_beyond_its_bound_forgets_the_oldest_events() {
        let mut received = ReceivedSet::default();
        received.reset(1_000_000);
        received.insert(1_000_001);
        received.insert(1_000_100);
        let far = 1_000_000 + (WORDS_MAX as u64) * 64 + 1;
        received.insert(far);
        assert!(received.contains(far) && received.contains(1_000_100) && received.contains(1_000_000));
        assert!(!received.contains(1_000_001), "it is forgotten");
        received.insert(far * 1_000);
        assert!(received.contains(far * 1_000) && !received.contains(far) && !received.contains(1_000_100));
        assert!(received.bits.len() <= WORDS_MAX);
    }

    proptest! {
        #[test]
        fn received_set_is_a_set_above_the_safe_position(
            steps in proptest::collection::vec((1_u64..400, any::<bool>()), 0..100),
        ) {
            let (mut received, mut model, mut complete_up_to) = (ReceivedSet::default(), BTreeSet::new(), 0);
            for (seq, is_complete) in steps {
                if is_complete {
                    received.mark_complete_up_to(seq / 2);
                    complete_up_to = complete_up_to.max(seq / 2);
                } else {
                    received.insert(seq);
                    model.insert(seq);
                }
                for seq in 1..400 {
                    prop_assert_eq!(received.contains(seq), seq <= complete_up_to || model.contains(&seq), "{}", seq);
                }
            }
        }
    }
}
