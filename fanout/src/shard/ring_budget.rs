//! Bounds all rings of a node: how long they keep events, and how many bytes they hold together.
//!
//! What must hold: however many rooms are busy, the node's rings stay near their bound of bytes. Above it, every ring
//! keeps its events for a shorter time, and a client that resumes from further back is served from the log.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use metrics::Gauge;
use protocol::id::{Shard, ShardCount};
use service::metric_names as names;

/// The shortest time for which events are kept.
const RETENTION_MIN: Duration = Duration::from_secs(1);

/// The bounds of a node's rings, and how much each shard's rings hold.
#[derive(Debug)]
pub(crate) struct RingBudget {
    /// Bytes held, by shard.
    bytes_by_shard: Vec<AtomicUsize>,
    /// Age of the oldest event in milliseconds, by shard.
    oldest_ms_by_shard: Vec<AtomicU64>,
    max_bytes: usize,
    retention_max: Duration,
    retention: Mutex<Duration>,
    gauge: Gauge,
}

impl RingBudget {
    /// Rings that keep events for `retention_max`, and hold `max_bytes` together.
    pub(crate) fn new(shards: ShardCount, max_bytes: usize, retention_max: Duration) -> Self {
        let retention_max = retention_max.max(RETENTION_MIN);
        Self {
            bytes_by_shard: shards.all().map(|_| AtomicUsize::new(0)).collect(),
            oldest_ms_by_shard: shards.all().map(|_| AtomicU64::new(0)).collect(),
            max_bytes,
            retention_max,
            retention: Mutex::new(retention_max),
            gauge: metrics::gauge!(names::RING_BYTES),
        }
    }

    /// How long a ring keeps an event now.
    pub(crate) fn retention(&self) -> Duration {
        *self.retention.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes, each second, how many bytes a shard's rings hold and how old their oldest event is. The system's shard
    /// also adapts the retention, once a second for the node.
    pub(crate) fn report(&self, shard: Shard, bytes: usize, oldest: Duration) {
        if let (Some(shard_bytes), Some(shard_oldest_ms)) =
            (self.bytes_by_shard.get(shard.index()), self.oldest_ms_by_shard.get(shard.index()))
        {
            shard_bytes.store(bytes, Ordering::Relaxed);
            shard_oldest_ms.store(u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        if shard == Shard::SYSTEM {
            self.adjust_retention();
        }
    }

    /// Shortens the retention in proportion if the rings hold too many bytes, and lengthens it slowly if there is room.
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
    fn adjust_retention(&self) {
        let total: usize = self.bytes_by_shard.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum();
        self.gauge.set(total as f64);
        let mut retention = self.retention.lock().unwrap_or_else(PoisonError::into_inner);
        let share = self.max_bytes as f64 / (total as f64).max(1.0);
        let adjusted = if share < 1.0 {
            let oldest = self
                .oldest_ms_by_shard
                .iter()
                .map(|oldest| oldest.load(Ordering::Relaxed))
                .max()
                .unwrap_or(0);
            retention.min(Duration::from_millis(oldest)).mul_f64(share)
        } else {
            retention.mul_f64(share.min(1.05))
        };
        *retention = adjusted.clamp(RETENTION_MIN, self.retention_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_falls_above_the_budget_and_recovers() {
        let shards = ShardCount::new(1).expect("1");
        let rings = RingBudget::new(shards, 1_000, Duration::from_secs(600));
        let note = |bytes: usize| {
            let oldest = Duration::from_secs(100);
            // The system's shard, which is the first, adds up the reports of all shards.
            for n in [1, 0] {
                rings.report(shards.all().nth(n).expect("two"), bytes / 2, oldest);
            }
            rings.retention().as_secs()
        };
        assert_eq!(note(0), 600);
        assert_eq!(note(4_000), 25, "four times too much, the oldest of which came 100 s ago");
        assert_eq!(note(4_000_000), 1);
        assert!((0..200).map(|_| note(500)).any(|age| age == 600), "there is room again");
    }
}
