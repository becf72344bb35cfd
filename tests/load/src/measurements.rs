//! Measures deliveries and their latencies, for a whole window and for each second of it.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Highest latency that a histogram can record, in microseconds.
const LATENCY_US_MAX: u64 = 600_000_000;

/// An empty histogram of latencies in microseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are valid")
}

/// One second of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SecondStats {
    pub(crate) deliveries: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// The measurements of a window of time.
#[derive(Debug)]
pub(crate) struct Measurements {
    start_ns: u64,
    end_ns: u64,
    /// Number of deliveries that arrived within the window.
    pub(crate) deliveries: u64,
    /// Latencies of the messages that were due within the window, whenever they arrived.
    pub(crate) latencies_us: Histogram<u64>,
    /// The seconds of the window so far.
    pub(crate) seconds: Vec<SecondStats>,
    /// Time from the request to join a room to its answer.
    pub(crate) join_latencies_us: Histogram<u64>,
    /// Time from when a message was due to its acknowledgement, for acknowledgements within the window.
    pub(crate) ack_latencies_us: Histogram<u64>,
    second_latencies_us: Histogram<u64>,
    second_end_ns: u64,
    /// The last delivery's latency, in microseconds.
    pub(crate) last_latency_us: u64,
    /// When the last delivery or acknowledgement arrived, in nanoseconds since 1970.
    pub(crate) last_arrival_ns: u64,
}

impl Measurements {
    /// An empty window between two times, in nanoseconds since 1970.
    pub(crate) fn new(start: u64, end: u64) -> Self {
        Self {
            start_ns: start,
            end_ns: end,
            deliveries: 0,
            latencies_us: histogram(),
            seconds: Vec::new(),
            join_latencies_us: histogram(),
            ack_latencies_us: histogram(),
            second_latencies_us: histogram(),
            second_end_ns: start + NANOS_PER_SEC,
            last_latency_us: 0,
            last_arrival_ns: 0,
        }
    }

    /// Records a delivery at `now` of a message that was due at `due`.
    pub(crate) fn record_delivery(&mut self, due: u64, now: u64) {
        let micros = now.saturating_sub(due) / 1_000;
        self.last_latency_us = micros;
        self.last_arrival_ns = now;
        if (self.start_ns..self.end_ns).contains(&due) {
            self.latencies_us.saturating_record(micros);
        }
        if (self.start_ns..self.end_ns).contains(&now) {
            self.close_seconds_before(now);
            self.deliveries += 1;
            self.second_latencies_us.saturating_record(micros);
        }
    }

    /// Records a join at `now` that was requested at `asked`.
    pub(crate) fn record_join(&mut self, requested_ns: u64, now: u64) {
        if (self.start_ns..self.end_ns).contains(&now) {
            self.join_latencies_us.saturating_record(now.saturating_sub(requested_ns) / 1_000);
        }
    }

    /// Records an acknowledgement at `now` of a message that was due at `due`.
    pub(crate) fn record_ack(&mut self, due: u64, now: u64) {
        self.last_arrival_ns = self.last_arrival_ns.max(now);
        if (self.start_ns..self.end_ns).contains(&now) {
            self.ack_latencies_us.saturating_record(now.saturating_sub(due) / 1_000);
        }
    }

    fn close_seconds_before(&mut self, now: u64) {
        while now >= self.second_end_ns {
            self.seconds.push(SecondStats {
                deliveries: self.second_latencies_us.len(),
                p50_ms: us_to_ms(self.second_latencies_us.value_at_quantile(0.5)),
                p99_ms: us_to_ms(self.second_latencies_us.value_at_quantile(0.99)),
            });
            self.second_latencies_us.reset();
            self.second_end_ns += NANOS_PER_SEC;
        }
    }

    /// Completes the seconds of the window.
    pub(crate) fn close(&mut self) {
        self.close_seconds_before(self.end_ns);
    }
}

/// Nanoseconds of a second.
pub(crate) const NANOS_PER_SEC: u64 = 1_000_000_000;

/// Converts microseconds to milliseconds.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn us_to_ms(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_count_only_the_window() {
        let mut measurements = Measurements::new(NANOS_PER_SEC, 3 * NANOS_PER_SEC);
        measurements.record_delivery(0, NANOS_PER_SEC / 2);
        measurements.record_delivery(NANOS_PER_SEC, NANOS_PER_SEC + 1_000_000);
        measurements.record_delivery(2 * NANOS_PER_SEC, 7 * NANOS_PER_SEC);
        measurements.close();
        assert_eq!((measurements.deliveries, measurements.latencies_us.len()), (1, 2));
        assert_eq!(measurements.seconds.iter().map(|s| s.deliveries).collect::<Vec<_>>(), [1, 0]);
        assert!(measurements.latencies_us.max() >= 4_990_000);
    }
}
