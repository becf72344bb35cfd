//! Measures how long events take from being appended to being written to sockets.

use std::time::Duration;

use async_nats::HeaderMap;
use metrics::Histogram;
use protocol::{clock::Timestamp, event::header};
use service::metric_names as names;

/// Measures a shard's events.
pub(super) struct DeliveryLatency {
    histogram: Histogram,
    /// When each that waits to be written was appended, in µs since 1970.
    appended: Vec<i64>,
}

impl DeliveryLatency {
    /// Nothing waits.
    pub(super) fn new() -> Self {
        Self { histogram: metrics::histogram!(names::DELIVERY_SECONDS), appended: Vec::new() }
    }

    /// An event is queued.
    pub(super) fn note_queued(&mut self, headers: Option<&HeaderMap>) {
        let appended = headers.and_then(|headers| headers.get_last(header::APPENDED));
        self.appended.extend(appended.and_then(|micros| micros.as_str().parse::<i64>().ok()));
    }

    /// All that was queued is written.
    pub(super) fn record(&mut self) {
        if self.appended.is_empty() {
            return;
        }
        let now = Timestamp::now().unix_us();
        for appended in self.appended.drain(..) {
            let micros = now.saturating_sub(appended).max(0);
            self.histogram.record(Duration::from_micros(micros.unsigned_abs()));
        }
    }
}
