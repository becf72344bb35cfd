//! Reports each shard to `/readyz` and to the metrics.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use metrics::{Counter, Gauge, Histogram};
use protocol::id::Shard;
use service::{admin::HealthComponent, metric_names as names};

/// The shards that can't go on, with the reason of each.
#[derive(Clone, Debug)]
pub(crate) struct ShardStatus {
    component: HealthComponent,
    refused_shards: Arc<Mutex<BTreeMap<Shard, String>>>,
}

impl ShardStatus {
    pub(crate) fn new(component: HealthComponent) -> Self {
        Self { component, refused_shards: Arc::default() }
    }

    /// Notes that a shard can go on, or is written by another process.
    pub(crate) fn mark_healthy(&self, shard: Shard) {
        self.set_reason(shard, None);
    }

    /// Notes that a shard can't go on.
    pub(crate) fn mark_refused(&self, shard: Shard, reason: &str) {
        self.set_reason(shard, Some(reason));
    }

    /// Whether a shard was noted as unable to go on.
    pub(crate) fn is_refused(&self, shard: Shard) -> bool {
        self.refused_shards.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&shard)
    }

    fn set_reason(&self, shard: Shard, reason: Option<&str>) {
        let mut refused_shards = self.refused_shards.lock().unwrap_or_else(PoisonError::into_inner);
        match reason {
            Some(reason) => refused_shards.insert(shard, reason.to_owned()),
            None => refused_shards.remove(&shard),
        };
        match refused_shards.iter().next() {
            None => self.component.ready(),
            Some((shard, reason)) => {
                self.component.not_ready(format!(
                    "shards that can't go on: {}; shard {shard}: {reason}",
                    refused_shards.len()
                ));
            }
        }
    }
}

/// The handles of a shard's metrics.
pub(crate) struct ShardMetrics {
    pub(crate) lag_messages: Gauge,
    pub(crate) lag_seconds: Gauge,
    pub(crate) batch_events: Histogram,
    pub(crate) watermark_seq: Gauge,
    pub(crate) log_bytes: Gauge,
    pub(crate) log_max_bytes: Gauge,
    pub(crate) purged_events: Counter,
    pub(crate) rejected_events: Counter,
    pub(crate) holes: Counter,
    pub(crate) repairs: Counter,
    pub(crate) leading: Gauge,
    pub(crate) refused: Gauge,
}

impl ShardMetrics {
    pub(crate) fn new(shard: Shard) -> Self {
        let label = shard.to_string();
        Self {
            lag_messages: metrics::gauge!(names::PERSISTER_LAG_MESSAGES, "shard" => label.clone()),
            lag_seconds: metrics::gauge!(names::PERSISTER_LAG_SECONDS, "shard" => label.clone()),
            batch_events: metrics::histogram!(names::PERSISTER_BATCH_EVENTS),
            watermark_seq: metrics::gauge!(names::PERSISTER_WATERMARK, "shard" => label.clone()),
            log_bytes: metrics::gauge!(names::LOG_BYTES, "shard" => label.clone()),
            log_max_bytes: metrics::gauge!(names::LOG_MAX_BYTES, "shard" => label.clone()),
            purged_events: metrics::counter!(names::LOG_PURGED_TOTAL, "shard" => label.clone()),
            rejected_events: metrics::counter!(names::REJECTED_EVENTS_TOTAL, "shard" => label.clone()),
            holes: metrics::counter!(names::LOG_HOLES_TOTAL, "shard" => label.clone()),
            repairs: metrics::counter!(names::LOG_REPAIRS_TOTAL, "shard" => label.clone()),
            leading: metrics::gauge!(names::PERSISTER_LEADING, "shard" => label.clone()),
            refused: metrics::gauge!(names::SHARD_REFUSED, "shard" => label),
        }
    }

    /// Sets a gauge to a large count, which is exact up to 2^53.
    #[expect(clippy::cast_precision_loss, reason = "sequences and byte counts are below 2^53")]
    pub(crate) fn set_gauge(gauge: &Gauge, value: u64) {
        gauge.set(value as f64);
    }
}
