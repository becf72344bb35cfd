//! Counts frames and bytes that are delivered to sockets.

use metrics::Counter;
use service::metric_names as names;

/// Handles of metrics that every delivery touches.
#[derive(Clone)]
pub(crate) struct DeliveryMetrics {
    pub(crate) frames: Counter,
    pub(crate) bytes: Counter,
    pub(crate) overflows: Counter,
}

impl DeliveryMetrics {
    /// Handles of the recorder that is installed now.
    pub(crate) fn new() -> Self {
        Self {
            frames: metrics::counter!(names::DELIVERIES_TOTAL),
            bytes: metrics::counter!(names::DELIVERED_BYTES_TOTAL),
            overflows: metrics::counter!(names::OUTBOX_OVERFLOWS_TOTAL),
        }
    }
}
