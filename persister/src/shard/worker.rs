//! Runs one shard: reads it in order and writes it in batches, for as long as this process leads it.
//!
//! What must hold: reading begins right after the watermark. Whenever it is uncertain what was written, the watermark
//! is read again. Work stops between batches, never inside one.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use async_nats::jetstream::Context;
use log::{HighestSeen, LogReader, ReadError};
use protocol::{clock::Timestamp, id::Shard};
use service::{lifecycle::Shutdown, metric_names::AFTER_CLOSING_TOTAL, random};
use time::OffsetDateTime;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    config::StreamArgs,
    database::SessionPool,
    leadership::ShardLeadership,
    search::SearchQueue,
    shard::{
        apply::{
            batch::{ApplyOutcome, BatchOrigin, ShardBatch},
            closed_rooms::RecentlyClosedRooms,
        },
        batcher::{self, Batch},
        committer::{Committed, Committer, TRANSACTION_TIMEOUT},
        retries::{self, BatchRetries},
        status::{ShardMetrics, ShardStatus},
        watermark::{self, Watermark},
    },
};

/// First and longest pause between attempts, before a random reduction by up to half.
const RETRY_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// Interval of `applied` notices while no batch is committed.
pub(crate) const NOTICE_INTERVAL: Duration = Duration::from_secs(1);

/// Stands for a watermark that this process has not read yet.
pub(crate) const WATERMARK_UNKNOWN: u64 = u64::MAX;

/// Writes one shard.
pub(crate) struct ShardWorker {
    pub(crate) shard: Shard,
    pub(crate) client: async_nats::Client,
    pub(crate) jetstream: Context,
    /// The sessions that read and write the watermark.
    pub(crate) batch_sessions: SessionPool,
    /// Writes the batches of all shards.
    pub(crate) committer: Committer,
    /// The sessions that delete rows which are no longer needed.
    pub(crate) maintenance_sessions: SessionPool,
    pub(crate) stream_args: StreamArgs,
    pub(crate) status: ShardStatus,
    pub(crate) leadership: ShardLeadership,
    /// Changes whenever the log must be checked again: on each new connection to the broker, and when api or fanout
    /// report a later event.
    pub(crate) rechecks: watch::Receiver<u64>,
    pub(crate) shutdown: Shutdown,
    pub(crate) metrics: ShardMetrics,
    /// The watermark as this process knows it, or [`WATERMARK_UNKNOWN`].
    pub(crate) watermark_seq: AtomicU64,
    /// Earlier failures, which limit the next batch.
    pub(crate) retries: Arc<Mutex<BatchRetries>>,
    /// The last event that was seen in the log.
    pub(crate) highest_seen: Arc<HighestSeen>,
    /// Receives the shard after each batch, so that its messages are indexed.
    pub(crate) search_queue: Arc<SearchQueue>,
    /// Boot id of the broker's host, if known.
    pub(crate) boot_id: Option<String>,
}

/// Why a session of reading and writing ended.
enum SessionEnd {
    /// The process stops, or no longer leads the shard.
    Stop,
    /// The log must be checked again at once.
    Recheck,
}

/// Why the shard can't go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShardError {
    /// An operator must decide.
    #[error("{0}")]
    Refused(String),
    /// A retry may help.
    #[error("{0:#}")]
    Transient(#[from] anyhow::Error),
}

impl ShardWorker {
    /// Checks the shard's log at start, whoever will lead the shard: api appends to a restarted broker only after a
    /// check.
    pub(crate) async fn verify_log_at_start(&self) {
        match self.verify_log().await {
            Ok(_) => self.mark_healthy(),
            Err(ShardError::Refused(reason)) => self.mark_refused(&reason),
            // The process that leads the shard checks it again.
            Err(ShardError::Transient(error)) => {
                tracing::warn!(
                    shard = %self.shard,
                    error = format!("{error:#}"),
                    "the log was not checked at start: the process that leads the shard checks it"
                );
                self.mark_healthy();
            }
        }
    }

    /// Writes the shard whenever this process leads it, until the soft stop.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let shutdown = self.shutdown.clone();
        let mut is_leader = self.leadership.subscribe();
        while !shutdown.soft.is_cancelled() {
            self.metrics.leading.set(0);
            while !*is_leader.borrow() {
                tokio::select! {
                    () = shutdown.soft.cancelled() => return Ok(()),
                    changed = is_leader.changed() => changed.context("the leadership task has ended")?,
                    () = sleep(NOTICE_INTERVAL) => self.stand_by().await,
                }
            }
            self.run_while_leading().await;
        }
        Ok(())
    }

    /// Writes the shard while this process leads it. Releases a shard that can't go on, so that `roomcast recover` can
    /// take its lock.
    async fn run_while_leading(&self) {
        let mut backoff = RETRY_BACKOFF.0;
        while !self.is_stopping() {
            let before = self.watermark_seq.load(Ordering::Relaxed);
            let pause = match self.run_session().await {
                Ok(SessionEnd::Stop) => return self.mark_healthy(),
                Ok(SessionEnd::Recheck) => Duration::ZERO,
                Err(ShardError::Refused(reason)) => {
                    self.mark_refused(&reason);
                    return self.leadership.release();
                }
                Err(ShardError::Transient(error)) => {
                    if self.watermark_seq.load(Ordering::Relaxed) != before {
                        backoff = RETRY_BACKOFF.0;
                    }
                    tracing::warn!(
                        shard = %self.shard,
                        error = format!("{error:#}"),
                        "writing the shard failed, retrying"
                    );
                    self.status.mark_refused(self.shard, &format!("{error:#}"));
                    let pause = random::jittered(backoff, 0.5..1.0);
                    backoff = (backoff * 2).min(RETRY_BACKOFF.1);
                    pause
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wait_until_stopping() => {}
            }
            if !pause.is_zero() {
                self.update_lag_metrics().await;
            }
        }
        self.mark_healthy();
    }

    fn is_stopping(&self) -> bool {
        self.shutdown.soft.is_cancelled() || !*self.leadership.subscribe().borrow()
    }

    async fn wait_until_stopping(&self) {
        let mut is_leader = self.leadership.subscribe();
        tokio::select! {
            () = self.shutdown.soft.cancelled() => {}
            // An error means that the sender is gone, and with it the leadership.
            _ = is_leader.wait_for(|is_leader| !*is_leader) => {}
        }
    }

    /// Reports that the shard can't go on until an operator decides.
    fn mark_refused(&self, reason: &str) {
        tracing::error!(shard = %self.shard, reason, "the shard can't go on until an operator decides");
        self.status.mark_refused(self.shard, reason);
        self.metrics.refused.set(1);
    }

    /// Reports that the shard can go on, here or in another process.
    pub(crate) fn mark_healthy(&self) {
        self.status.mark_healthy(self.shard);
        self.metrics.refused.set(0);
    }

    /// Checks the log, then reads and writes until it must be checked again.
    async fn run_session(&self) -> Result<SessionEnd, ShardError> {
        let mut rechecks = self.rechecks.clone();
        rechecks.borrow_and_update();
        let watermark = self.verify_log().await?;
        self.mark_healthy();
        self.metrics.leading.set(1);
        let trimming = self.trim_stream_periodically();
        let maintaining = self.delete_old_rows_periodically();
        let writing = self.write_batches(watermark.seq, watermark.epoch, &mut rechecks);
        tokio::select! {
            ended = writing => ended,
            never = trimming => match never {},
            never = maintaining => match never {},
        }
    }

    pub(crate) async fn read_watermark(&self) -> anyhow::Result<Watermark> {
        let mut pooled = self.batch_sessions.take().await?;
        let result = timeout(TRANSACTION_TIMEOUT, watermark::read(pooled.session(), self.shard)).await;
        let watermark = result.context("the database did not answer in time")??;
        pooled.give_back();
        self.set_watermark(watermark.seq);
        Ok(watermark)
    }

    fn set_watermark(&self, seq: u64) {
        self.watermark_seq.store(seq, Ordering::Relaxed);
        ShardMetrics::set_gauge(&self.metrics.watermark_seq, seq);
    }

    pub(crate) fn hole_error(&self, from: u64, to: u64) -> ShardError {
        self.metrics.holes.increment(1);
        ShardError::Refused(format!(
            "the log has lost {from} to {to}, which Postgres lacks: \
             `roomcast recover --accept-loss` skips them"
        ))
    }

    async fn write_batches(
        &self,
        mut watermark_seq: u64,
        epoch: u64,
        rechecks: &mut watch::Receiver<u64>,
    ) -> Result<SessionEnd, ShardError> {
        let mut closed_rooms = self.read_closed_rooms(watermark_seq).await?;
        let mut reader = LogReader::open(self.jetstream.clone(), self.shard, None, watermark_seq + 1);
        let mut tick = interval(NOTICE_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_behind = false;
        loop {
            let first = {
                // One call however long it takes: a reader that is called anew each second would never connect to a
                // slow broker.
                let next_event =
                    batcher::first_of_batch(&mut reader, is_behind, || self.committer.last_begun_at());
                tokio::pin!(next_event);
                loop {
                    tokio::select! {
                        event = &mut next_event => break event,
                        _ = tick.tick() => self.publish_applied(epoch, watermark_seq).await,
                        () = self.wait_until_stopping() => return Ok(SessionEnd::Stop),
                        _ = rechecks.changed() => return Ok(SessionEnd::Recheck),
                    }
                }
            };
            let mut batch = match first {
                Ok(first) => {
                    let events_max = retries::lock(&self.retries).events_max();
                    batcher::collect_batch(&mut reader, first, self.committer.last_begun_at(), events_max)
                        .await
                }
                Err(error) => return Err(self.to_shard_error(error)),
            };
            is_behind = batch.pending > 0;
            self.highest_seen.note(epoch, batch.log_end_seq());
            let read_error = batch.read_error.take();
            self.commit_batch(batch, epoch, &mut watermark_seq, &mut closed_rooms).await?;
            self.publish_applied(epoch, watermark_seq).await;
            tick.reset();
            if let Some(error) = read_error {
                return Err(self.to_shard_error(error));
            }
            if self.is_stopping() {
                return Ok(SessionEnd::Stop);
            }
        }
    }

    fn to_shard_error(&self, error: ReadError) -> ShardError {
        match error {
            ReadError::Hole { expected, got } if got > expected => self.hole_error(expected, got - 1),
            error => ShardError::Transient(error.into()),
        }
    }

    async fn read_closed_rooms(&self, watermark_seq: u64) -> anyhow::Result<RecentlyClosedRooms> {
        let mut pooled = self.batch_sessions.take().await?;
        let result = timeout(
            TRANSACTION_TIMEOUT,
            RecentlyClosedRooms::read(pooled.session(), self.shard, watermark_seq),
        )
        .await;
        let closed_rooms = result.context("the database did not answer in time")??;
        pooled.give_back();
        Ok(closed_rooms)
    }

    /// Has the batch written, and moves on to its end.
    async fn commit_batch(
        &self,
        batch: Batch,
        epoch: u64,
        watermark_seq: &mut u64,
        closed_rooms: &mut RecentlyClosedRooms,
    ) -> Result<(), ShardError> {
        let (pending, event_count) = (batch.pending, u64::try_from(batch.events.len()).unwrap_or(u64::MAX));
        ShardMetrics::set_gauge(&self.metrics.lag_messages, pending + event_count);
        if let Some(oldest) = batch.events.first() {
            self.metrics
                .lag_seconds
                .set((OffsetDateTime::from(Timestamp::now()) - oldest.time).as_seconds_f64().max(0.0));
        }
        let origin = BatchOrigin { shard: self.shard, epoch, log_end_seq: batch.log_end_seq() };
        let batch = ShardBatch {
            origin,
            events: batch.events,
            bytes: batch.bytes,
            closed_rooms: std::mem::take(closed_rooms),
            retries: self.retries.clone(),
            outcome: ApplyOutcome { watermark_seq: *watermark_seq, ..ApplyOutcome::default() },
        };
        let Committed { batch, result } = self.committer.commit(batch).await?;
        *closed_rooms = batch.closed_rooms;
        self.metrics.rejected_events.increment(batch.outcome.rejected_events);
        if batch.outcome.dropped_after_closing > 0 {
            metrics::counter!(AFTER_CLOSING_TOTAL).increment(batch.outcome.dropped_after_closing);
        }
        *watermark_seq = batch.outcome.watermark_seq;
        self.set_watermark(batch.outcome.watermark_seq);
        if let Err(error) = result {
            if error.is_timeout() {
                retries::lock(&self.retries).note_timeout(batch.events.len());
            }
            return Err(ShardError::Transient(error.into()));
        }
        self.search_queue.push(self.shard);
        retries::lock(&self.retries).note_success();
        self.metrics.batch_events.record(u32::try_from(event_count).unwrap_or(u32::MAX));
        ShardMetrics::set_gauge(&self.metrics.lag_messages, pending);
        if pending == 0 {
            self.metrics.lag_seconds.set(0);
        }
        Ok(())
    }
}
