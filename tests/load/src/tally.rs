//! What is measured: deliveries and their latencies, as a whole and second by second.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer than anything that is waited for, in microseconds.
const LONGEST: u64 = 600_000_000;

/// Latencies in microseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds that are allowed")
}

/// One second of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Second {
    pub(crate) deliveries: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// A window of time, and what was seen in it.
#[derive(Debug)]
pub(crate) struct Tally {
    start: u64,
    end: u64,
    /// Deliveries that came within the window.
    pub(crate) deliveries: u64,
    /// Latencies of the messages that were due within it, whenever they came.
    pub(crate) latency: Histogram<u64>,
    /// The window's seconds.
    pub(crate) seconds: Vec<Second>,
    /// From asking into a room to being in it.
    pub(crate) joins: Histogram<u64>,
    /// From when a message was due to its acknowledgement, of those that came within the window.
    pub(crate) acks: Histogram<u64>,
    second: Histogram<u64>,
    second_end: u64,
    /// The last delivery's latency, in microseconds.
    pub(crate) last: u64,
    /// When the last delivery came.
    pub(crate) at: u64,
}

impl Tally {
    /// A window between two times; nothing is counted before it.
    pub(crate) fn new(start: u64, end: u64) -> Self {
        Self {
            start,
            end,
            deliveries: 0,
            latency: histogram(),
            seconds: Vec::new(),
            joins: histogram(),
            acks: histogram(),
            second: histogram(),
            second_end: start + SECOND,
            last: 0,
            at: 0,
        }
    }

    /// A message that was due then has come now.
    pub(crate) fn count(&mut self, due: u64, now: u64) {
        let micros = now.saturating_sub(due) / 1_000;
        self.last = micros;
        self.at = now;
        if (self.start..self.end).contains(&due) {
            self.latency.saturating_record(micros);
        }
        if (self.start..self.end).contains(&now) {
            self.roll(now);
            self.deliveries += 1;
            self.second.saturating_record(micros);
        }
    }

    /// A socket that had asked into its room then is in it now.
    pub(crate) fn joined(&mut self, asked: u64, now: u64) {
        if (self.start..self.end).contains(&now) {
            self.joins.saturating_record(now.saturating_sub(asked) / 1_000);
        }
    }

    /// A message that was due then is acknowledged now.
    pub(crate) fn acknowledged(&mut self, due: u64, now: u64) {
        self.at = self.at.max(now);
        if (self.start..self.end).contains(&now) {
            self.acks.saturating_record(now.saturating_sub(due) / 1_000);
        }
    }

    fn roll(&mut self, now: u64) {
        while now >= self.second_end {
            self.seconds.push(Second {
                deliveries: self.second.len(),
                p50_ms: millis(self.second.value_at_quantile(0.5)),
                p99_ms: millis(self.second.value_at_quantile(0.99)),
            });
            self.second.reset();
            self.second_end += SECOND;
        }
    }

    /// The window is over.
    pub(crate) fn close(&mut self) {
        self.roll(self.end);
    }
}

/// A second, in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Microseconds as milliseconds.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_window_counts_and_what_comes_late_of_it_has_its_latency() {
        let mut tally = Tally::new(SECOND, 3 * SECOND);
        tally.count(0, SECOND / 2);
        tally.count(SECOND, SECOND + 1_000_000);
        tally.count(2 * SECOND, 7 * SECOND);
        tally.close();
        assert_eq!((tally.deliveries, tally.latency.len()), (1, 2));
        assert_eq!(tally.seconds.iter().map(|s| s.deliveries).collect::<Vec<_>>(), [1, 0]);
        assert!(tally.latency.max() >= 4_990_000);
    }
}
