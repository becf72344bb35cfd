//! Publishes the shard's watermark, trims its stream and measures its lag, beside the writing of batches.
//!
//! What must hold: nothing here decides what is written, and the next round makes up for one that failed.

pub(crate) mod row_cleanup;

use std::{convert::Infallible, sync::atomic::Ordering, time::Duration};

use async_nats::connection::State;
use log::AppliedPosition;
use protocol::{clock::Timestamp, subject};
use service::random;
use time::OffsetDateTime;
use tokio::time::{sleep, timeout};

use crate::{
    shard::{
        status::ShardMetrics,
        worker::{NOTICE_INTERVAL, ShardWorker, WATERMARK_UNKNOWN},
    },
    streams::{
        retention,
        verify::{LogComparison, LogVerdict},
    },
};

const TRIM_INTERVAL: Duration = Duration::from_secs(5);
const STANDBY_TIMEOUT: Duration = Duration::from_secs(2);

impl ShardWorker {
    /// Publishes up to where the shard is in Postgres. Publishes nothing while the broker is not connected: a later
    /// notice makes up for it.
    pub(crate) async fn publish_applied(&self, epoch: u64, seq: u64) {
        if self.client.connection_state() != State::Connected {
            return;
        }
        let Ok(notice) = serde_json::to_vec(&AppliedPosition { epoch, seq }) else { return };
        let publishing = self.client.publish(subject::applied(self.shard), notice.into());
        if !matches!(timeout(NOTICE_INTERVAL, publishing).await, Ok(Ok(()))) {
            tracing::warn!(
                shard = %self.shard,
                "an applied notice was not published: the next one makes up for it"
            );
        }
    }

    /// Every few seconds, trims the log and updates its metrics.
    pub(crate) async fn trim_stream_periodically(&self) -> Infallible {
        loop {
            let trimming = async {
                let state = log::state(&self.jetstream, self.shard).await?;
                self.highest_seen.note(state.epoch, state.last);
                let watermark_seq = self.watermark_seq.load(Ordering::Relaxed);
                ShardMetrics::set_gauge(&self.metrics.log_bytes, state.bytes);
                ShardMetrics::set_gauge(&self.metrics.log_max_bytes, state.max_bytes);
                ShardMetrics::set_gauge(&self.metrics.lag_messages, state.last.saturating_sub(watermark_seq));
                if state.last <= watermark_seq {
                    self.metrics.lag_seconds.set(0);
                }
                retention::trim_stream(
                    &self.jetstream,
                    self.shard,
                    &state,
                    watermark_seq,
                    self.stream_args.replay_window(),
                )
                .await
            };
            match trimming.await {
                Ok(purged) => self.metrics.purged_events.increment(purged),
                Err(error) => {
                    tracing::warn!(
                        shard = %self.shard,
                        error = format!("{error:#}"),
                        "the log was not trimmed: the next round tries again"
                    );
                }
            }
            sleep(random::jittered(TRIM_INTERVAL, 0.8..1.2)).await;
        }
    }

    /// Updates the lag metrics by the log alone, while nothing can be written.
    pub(crate) async fn update_lag_metrics(&self) {
        let watermark_seq = self.watermark_seq.load(Ordering::Relaxed);
        if watermark_seq == WATERMARK_UNKNOWN {
            return;
        }
        let reading = async {
            let state = log::state(&self.jetstream, self.shard).await?;
            anyhow::Ok((state, log::get(&self.jetstream, self.shard, watermark_seq + 1).await?))
        };
        // If the log does not answer either, the metrics keep their values.
        let Ok(Ok((state, oldest))) = timeout(STANDBY_TIMEOUT, reading).await else { return };
        self.highest_seen.note(state.epoch, state.last);
        ShardMetrics::set_gauge(&self.metrics.lag_messages, state.last.saturating_sub(watermark_seq));
        let now = OffsetDateTime::from(Timestamp::now());
        let age = oldest.map_or(0.0, |oldest| (now - oldest.time).as_seconds_f64());
        self.metrics.lag_seconds.set(age.max(0.0));
    }

    /// Updates the lag metrics while another process leads the shard, or none can. If the database does not answer, no
    /// process moves the watermark, so the last one read is still true.
    pub(crate) async fn stand_by(&self) {
        if let Ok(Err(error)) = timeout(STANDBY_TIMEOUT, self.read_watermark()).await {
            tracing::debug!(
                shard = %self.shard,
                error = format!("{error:#}"),
                "the watermark was not read while standing by"
            );
        }
        self.update_lag_metrics().await;
        if self.status.is_refused(self.shard) && self.can_resume().await {
            self.mark_healthy();
        }
    }

    /// Whether a refused shard can go on, as far as can be told without leading it.
    async fn can_resume(&self) -> bool {
        let comparison = async {
            let watermark = self.read_watermark().await?;
            LogComparison::read(&self.jetstream, self.shard, watermark.last_applied()).await
        };
        matches!(timeout(STANDBY_TIMEOUT, comparison).await,
                 Ok(Ok(Some(comparison))) if !matches!(comparison.verdict, LogVerdict::Hole { .. }))
    }
}
