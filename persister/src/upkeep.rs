//! What a shard's worker does beside writing: it tells how far it is, trims the log, and measures.
//!
//! What must hold: nothing here decides what is written, and the loss of any of it is made good by
//! the next round.

use std::{convert::Infallible, sync::atomic::Ordering, time::Duration};

use async_nats::connection::State;
use log::AppliedPosition;
use protocol::subject;
use time::OffsetDateTime;
use tokio::time::{sleep, timeout};

use crate::{
    repair::{Judged, Verdict},
    retention,
    standing::Meters,
    worker::{NOTICE, UNKNOWN, Worker},
};

const TRIM: Duration = Duration::from_secs(5);
const ASKING: Duration = Duration::from_secs(2);

impl Worker {
    /// Tells everyone up to where the shard is in Postgres. Lost where the broker is not there:
    /// the next second tells again.
    pub(crate) async fn tell(&self, epoch: u64, seq: u64) {
        if self.client.connection_state() != State::Connected {
            return;
        }
        let Ok(notice) = serde_json::to_vec(&AppliedPosition { epoch, seq }) else { return };
        let told = self.client.publish(subject::applied(self.shard), notice.into());
        if !matches!(timeout(NOTICE, told).await, Ok(Ok(()))) {
            tracing::warn!(shard = %self.shard, "a notice was not sent");
        }
    }

    /// Every few seconds, takes out of the log what Postgres has.
    pub(crate) async fn trim(&self) -> Infallible {
        loop {
            let trimmed = async {
                let state = log::state(&self.jetstream, self.shard).await?;
                self.seen.note(state.epoch, state.last);
                let watermark = self.watermark.load(Ordering::Relaxed);
                Meters::set(&self.meters.log_bytes, state.bytes);
                Meters::set(&self.meters.log_max_bytes, state.max_bytes);
                Meters::set(&self.meters.lag_messages, state.last.saturating_sub(watermark));
                if state.last <= watermark {
                    self.meters.lag_seconds.set(0);
                }
                retention::run(&self.jetstream, self.shard, &state, watermark, self.log.replay()).await
            };
            match trimmed.await {
                Ok(purged) => self.meters.purged.increment(purged),
                Err(error) => {
                    tracing::warn!(shard = %self.shard, error = format!("{error:#}"), "the log was not trimmed");
                }
            }
            sleep(TRIM.mul_f64(rand::random_range(0.8..1.2))).await;
        }
    }

    /// Says how far behind Postgres is while nothing can be written, as the log alone tells it.
    pub(crate) async fn measure_lag(&self) {
        let watermark = self.watermark.load(Ordering::Relaxed);
        if watermark == UNKNOWN {
            return;
        }
        let asked = async {
            let state = log::state(&self.jetstream, self.shard).await?;
            anyhow::Ok((state, log::get(&self.jetstream, self.shard, watermark + 1).await?))
        };
        // Where the log does not answer either, the last answer stands.
        let Ok(Ok((state, oldest))) = timeout(ASKING, asked).await else { return };
        self.seen.note(state.epoch, state.last);
        Meters::set(&self.meters.lag_messages, state.last.saturating_sub(watermark));
        let now = OffsetDateTime::now_utc();
        let age = oldest.map_or(0.0, |oldest| (now - oldest.time).as_seconds_f64());
        self.meters.lag_seconds.set(age.max(0.0));
    }

    /// While another process leads, or none can: the lag is told all the same. Where the database
    /// does not answer nobody moves the watermark, and the last one read is true.
    pub(crate) async fn stand_by(&self) {
        if let Ok(Err(error)) = timeout(ASKING, self.read_place()).await {
            tracing::debug!(shard = %self.shard, error = format!("{error:#}"), "standing by");
        }
        self.measure_lag().await;
        if self.standing.refuses(self.shard) && self.can_go_on().await {
            self.fine();
        }
    }

    /// Whether a shard that was refused can go on, as far as one can tell without leading it.
    async fn can_go_on(&self) -> bool {
        let judged = async {
            let place = self.read_place().await?;
            Judged::of(&self.jetstream, self.shard, &place).await
        };
        matches!(timeout(ASKING, judged).await,
                 Ok(Ok(Some(judged))) if !matches!(judged.verdict, Verdict::Hole { .. }))
    }
}
