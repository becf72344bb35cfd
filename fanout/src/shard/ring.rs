//! Keeps the recent events of a channel, as the frames that were pushed.
//!
//! What must hold: the ring has every event of its channel in (base, last] that a resume repeats,
//! so a client that has everything up to `base` or later can resume from the ring alone.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

/// Maximum events of a ring.
pub(crate) const RING_EVENTS_MAX: usize = 10_000;
/// Maximum bytes of a ring's frames.
pub(crate) const RING_BYTES_MAX: usize = 4 << 20;

/// Marks of time per maximum age: an event is dropped at most a sixteenth of that age too late.
const AGE_MARKS_MAX: u32 = 16;
/// Capacity, in frames, that a ring with few frames keeps allocated.
const CAPACITY_MIN: usize = 16;

/// Recent frames by sequence.
#[derive(Debug)]
pub(crate) struct Ring {
    base: u64,
    /// A client whose last event is before this can't be served, now or later: the log lacks events that it needs, or
    /// they are more than a ring holds.
    unservable_below: u64,
    frames: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// At each of these times, the newest event of the ring.
    age_marks: VecDeque<(Instant, u64)>,
}

impl Ring {
    /// An empty ring: its channel has no event after `base` yet.
    pub(crate) const fn new(base: u64) -> Self {
        Self { base, unservable_below: 0, frames: VecDeque::new(), bytes: 0, age_marks: VecDeque::new() }
    }

    /// The ring has every event after this sequence.
    pub(crate) const fn base(&self) -> u64 {
        self.base
    }

    /// A client whose last event is before this sequence can't be served, now or later.
    pub(crate) const fn unservable_below(&self) -> u64 {
        self.unservable_below
    }

    /// Raises [`Ring::unservable_below`] to `before`, where that is later.
    pub(crate) fn mark_unservable_below(&mut self, before: u64) {
        self.unservable_below = self.unservable_below.max(before);
    }

    /// Free space: events, and bytes.
    pub(crate) fn free_space(&self) -> (usize, usize) {
        (RING_EVENTS_MAX.saturating_sub(self.frames.len()), RING_BYTES_MAX.saturating_sub(self.bytes))
    }

    /// Memory that the ring takes, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes + self.frames.capacity() * size_of::<(u64, Bytes)>()
    }

    /// Age of the oldest mark: the ring's first events are at least that old. Zero without a mark.
    pub(crate) fn oldest_age(&self) -> Duration {
        self.age_marks.front().map_or(Duration::ZERO, |(at, _)| at.elapsed())
    }

    /// Drops events that came more than `age` ago. To be called each second or so. The log may still have them, so
    /// [`Ring::unservable_below`] stays.
    pub(crate) fn drop_older_than(&mut self, age: Duration) {
        let now = Instant::now();
        if let Some((newest, _)) = self.frames.back() {
            let last = self.age_marks.back();
            if last.is_none_or(|(at, seq)| seq < newest && now.duration_since(*at) >= age / AGE_MARKS_MAX) {
                self.age_marks.push_back((now, *newest));
            }
        }
        while let Some((_, upto)) = self.age_marks.pop_front_if(|(at, _)| now.duration_since(*at) >= age) {
            while let Some((_, frame)) = self.frames.pop_front_if(|(seq, _)| *seq <= upto) {
                self.bytes -= frame.len();
            }
            self.base = self.base.max(upto);
        }
        if self.frames.len() < self.frames.capacity() / 4 {
            self.frames.shrink_to((2 * self.frames.len()).max(CAPACITY_MIN));
        }
    }

    /// Adds the newest event. Drops the oldest ones where the ring is full.
    pub(crate) fn push(&mut self, seq: u64, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back((seq, frame));
        self.shrink();
    }

    /// Adds an event that was found only after newer ones. Ignores one that is at or before the base, or is known.
    pub(crate) fn insert(&mut self, seq: u64, frame: Bytes) {
        let index = self.frames.partition_point(|(other, _)| *other < seq);
        let is_known = self.frames.get(index).is_some_and(|(other, _)| *other == seq);
        if seq > self.base && !is_known {
            self.bytes += frame.len();
            self.frames.insert(index, (seq, frame));
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        while self.frames.len() > RING_EVENTS_MAX || self.bytes > RING_BYTES_MAX {
            if let Some((seq, frame)) = self.frames.pop_front() {
                self.bytes -= frame.len();
                self.base = seq;
                self.mark_unservable_below(seq);
            }
        }
    }

    /// Adds older events: all of the channel in (base, upto]. Leaves out the oldest ones where the ring is full, and
    /// all of them where `upto` is no longer its base: there would be a gap. [`Ring::base`] then says where it begins.
    pub(crate) fn extend_back(&mut self, base: u64, upto: u64, older: Vec<(u64, Bytes)>) {
        if upto != self.base {
            return;
        }
        for (seq, frame) in older.into_iter().rev() {
            if self.frames.len() == RING_EVENTS_MAX || self.bytes + frame.len() > RING_BYTES_MAX {
                self.base = seq;
                self.mark_unservable_below(seq);
                return;
            }
            self.bytes += frame.len();
            self.frames.push_front((seq, frame));
        }
        self.base = base;
    }

    /// The frames after `since`, in order.
    pub(crate) fn after(&self, since: u64) -> impl Iterator<Item = &Bytes> {
        let start = self.frames.partition_point(|(seq, _)| *seq <= since);
        self.frames.range(start..).map(|(_, frame)| frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8) -> Bytes {
        Bytes::copy_from_slice(&[byte])
    }

    #[test]
    fn ring_serves_later_events() {
        let mut ring = Ring::new(10);
        ring.push(12, frame(12));
        ring.push(15, frame(15));
        ring.extend_back(5, 10, vec![(6, frame(6)), (9, frame(9))]);
        let served: Vec<u8> = ring.after(6).map(|frame| frame[0]).collect();
        assert_eq!(served, [9, 12, 15]);
        assert_eq!(ring.base(), 5);
        ring.extend_back(1, 10, vec![]);
        assert_eq!(ring.base(), 5, "the gap between 5 and 10 would go unnoticed");
    }

    #[test]
    fn ring_extended_beyond_its_bound_takes_the_newest() {
        let mut ring = Ring::new(10);
        ring.push(12, Bytes::from(vec![0; RING_BYTES_MAX - 2]));
        ring.extend_back(1, 10, vec![(2, frame(2)), (4, frame(4)), (6, frame(6)), (8, frame(8))]);
        assert_eq!((ring.base(), ring.after(0).count()), (4, 3));
        assert_eq!(
            (ring.unservable_below(), ring.free_space()),
            (4, (RING_EVENTS_MAX - 3, 0)),
            "events before that never fit"
        );
    }

    #[test]
    fn ring_takes_an_event_that_is_found_late() {
        let mut ring = Ring::new(10);
        ring.push(12, frame(12));
        ring.push(15, frame(15));
        for seq in [13, 15, 9, 16] {
            ring.insert(seq, frame(0));
        }
        let seqs: Vec<u64> = ring.frames.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, [12, 13, 15, 16], "9 is before the base, 15 is known");
    }

    #[tokio::test(start_paused = true)]
    async fn ring_drops_old_events_that_can_be_read_again() {
        let age = Duration::from_secs(160);
        let mut ring = Ring::new(0);
        for seq in 1..=1_000 {
            ring.push(seq, frame(0));
            tokio::time::advance(Duration::from_secs(1)).await;
            ring.drop_older_than(age);
            let oldest = seq.saturating_sub(160 + 10 + 1);
            assert!(
                ring.base() >= oldest && ring.base() <= seq.saturating_sub(159),
                "{} at {seq}",
                ring.base()
            );
            assert_eq!(ring.after(0).count() as u64, seq - ring.base());
        }
        for _ in 0..2 {
            tokio::time::advance(age).await;
            ring.drop_older_than(age);
        }
        assert_eq!((ring.base(), ring.after(0).count(), ring.unservable_below()), (1_000, 0, 0));
        assert!(
            ring.frames.capacity() <= CAPACITY_MIN && ring.age_marks.is_empty(),
            "an empty ring holds no memory"
        );
        ring.extend_back(998, 1_000, vec![(999, frame(0)), (1_000, frame(0))]);
        assert_eq!((ring.base(), ring.after(998).count()), (998, 2));
    }

    #[test]
    fn dropped_events_move_the_base_of_the_ring() {
        let mut ring = Ring::new(0);
        for seq in 1..=RING_EVENTS_MAX as u64 + 2 {
            ring.push(seq, frame(0));
        }
        assert_eq!(ring.base(), 2);
        assert_eq!(ring.after(0).count(), RING_EVENTS_MAX);
    }
}
