//! One shard: read in order, written in batches, for as long as this process leads it.
//!
//! What must hold: reading begins right after the watermark, and after any doubt about what was
//! written the watermark is read again. Work ends between batches, never inside one.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use async_nats::jetstream::Context;
use log::{HighestSeen, LogReader, ReadError};
use protocol::id::Shard;
use service::{
    lifecycle::Shutdown,
    metric_names::{AFTER_CLOSING_TOTAL, PERSISTER_COMMIT_SECONDS},
};
use time::OffsetDateTime;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    apply::{self, ApplyError, Outcome},
    closed::ClosedRooms,
    config::LogArgs,
    feed::{self, Batch},
    lead::Lead,
    retry::Retries,
    search::Due,
    session::Writers,
    standing::{Meters, Standing},
    watermark::{self, Place},
};

const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
pub(crate) const NOTICE: Duration = Duration::from_secs(1);
/// More than every statement of a batch may take: a session that is silent for longer is lost.
const TRANSACTION: Duration = Duration::from_secs(30);

/// The watermark that this process has not read yet.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// Writes one shard.
pub(crate) struct Worker {
    pub(crate) shard: Shard,
    pub(crate) client: async_nats::Client,
    pub(crate) jetstream: Context,
    pub(crate) writers: Writers,
    /// The sessions that delete what nobody needs any more.
    pub(crate) maintainers: Writers,
    pub(crate) log: LogArgs,
    pub(crate) standing: Standing,
    pub(crate) lead: Lead,
    /// Changes whenever the log may be another: with each new connection to the broker, and when others
    /// saw more of it.
    pub(crate) doubts: watch::Receiver<u64>,
    pub(crate) shutdown: Shutdown,
    pub(crate) meters: Meters,
    /// Up to where this process knows the shard to be written.
    pub(crate) watermark: AtomicU64,
    /// What failed before, and how the next batch differs for it.
    pub(crate) retries: Mutex<Retries>,
    /// How far the log was seen to reach.
    pub(crate) seen: Arc<HighestSeen>,
    /// What full-text search is told of.
    pub(crate) due: Arc<Due>,
    /// The boot of the broker's host, where it is known.
    pub(crate) boot: Option<String>,
}

/// Why reading ended.
enum Ended {
    /// The process stops, or does not lead the shard any more.
    Stop,
    /// The watermark and the log are to be looked at again, at once.
    Again,
}

/// Why the shard can't go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// A person must look.
    #[error("{0}")]
    Refused(String),
    /// Trying again may help.
    #[error("{0:#}")]
    Passing(#[from] anyhow::Error),
}

impl Worker {
    /// Looks at the shard before anything else may append to it, where this process is the first to.
    pub(crate) async fn prepare(&self) {
        match self.look().await {
            Ok(_) => self.fine(),
            Err(Trouble::Refused(reason)) => self.refuse(&reason),
            // It is looked at again by whoever leads.
            Err(Trouble::Passing(error)) => {
                tracing::warn!(shard = %self.shard, error = format!("{error:#}"), "not looked at");
                self.fine();
            }
        }
    }

    /// Works until the soft stop.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let shutdown = self.shutdown.clone();
        let mut lead = self.lead.watch();
        while !shutdown.soft.is_cancelled() {
            self.meters.leading.set(0);
            while !*lead.borrow() {
                tokio::select! {
                    () = shutdown.soft.cancelled() => return Ok(()),
                    told = lead.changed() => told.context("nobody tells who leads")?,
                    () = sleep(NOTICE) => self.stand_by().await,
                }
            }
            self.work().await;
        }
        Ok(())
    }

    /// Works on the shard while this process leads it. One that can't go on is given up for a while, so
    /// that whoever repairs it can hold its lock.
    async fn work(&self) {
        let mut backoff = BACKOFF.0;
        while !self.is_over() {
            let before = self.watermark.load(Ordering::Relaxed);
            let pause = match self.session().await {
                Ok(Ended::Stop) => return self.fine(),
                Ok(Ended::Again) => Duration::ZERO,
                Err(Trouble::Refused(reason)) => {
                    self.refuse(&reason);
                    return self.lead.give_up();
                }
                Err(Trouble::Passing(error)) => {
                    if self.watermark.load(Ordering::Relaxed) != before {
                        backoff = BACKOFF.0;
                    }
                    tracing::warn!(shard = %self.shard, error = format!("{error:#}"), "trying again");
                    self.standing.refuse(self.shard, &format!("{error:#}"));
                    let pause = backoff.mul_f64(rand::random_range(0.5..1.0));
                    backoff = (backoff * 2).min(BACKOFF.1);
                    pause
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.over() => {}
            }
            if !pause.is_zero() {
                self.measure_lag().await;
            }
        }
        self.fine();
    }

    fn is_over(&self) -> bool {
        self.shutdown.soft.is_cancelled() || !*self.lead.watch().borrow()
    }

    async fn over(&self) {
        let mut lead = self.lead.watch();
        tokio::select! {
            () = self.shutdown.soft.cancelled() => {}
            // Whoever tells is gone: so is the lead.
            _ = lead.wait_for(|lead| !*lead) => {}
        }
    }

    /// The shard can't go on until a person has decided.
    fn refuse(&self, reason: &str) {
        tracing::error!(shard = %self.shard, reason, "the shard can't go on");
        self.standing.refuse(self.shard, reason);
        self.meters.refused.set(1);
    }

    /// The shard goes on, here or at another process.
    pub(crate) fn fine(&self) {
        self.standing.fine(self.shard);
        self.meters.refused.set(0);
    }

    /// Looks at both ends, then reads and writes until something is to be looked at again.
    async fn session(&self) -> Result<Ended, Trouble> {
        let mut doubts = self.doubts.clone();
        doubts.borrow_and_update();
        let place = self.look().await?;
        self.fine();
        self.meters.leading.set(1);
        let trimming = self.trim();
        let maintaining = self.maintain();
        let writing = self.write(place.seq, place.epoch, &mut doubts);
        tokio::select! {
            ended = writing => ended,
            never = trimming => match never {},
            never = maintaining => match never {},
        }
    }

    pub(crate) async fn read_place(&self) -> anyhow::Result<Place> {
        let mut writer = self.writers.take().await?;
        let read = timeout(TRANSACTION, watermark::read(writer.session(), self.shard)).await;
        let place = read.context("the database did not answer in time")??;
        writer.give_back();
        self.note_watermark(place.seq);
        Ok(place)
    }

    fn retries(&self) -> MutexGuard<'_, Retries> {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_watermark(&self, seq: u64) {
        self.watermark.store(seq, Ordering::Relaxed);
        Meters::set(&self.meters.watermark, seq);
    }

    pub(crate) fn hole(&self, from: u64, to: u64) -> Trouble {
        self.meters.holes.increment(1);
        Trouble::Refused(format!(
            "the log has lost {from} to {to}, which Postgres has not got: \
             `roomcast recover --accept-loss` goes on without them"
        ))
    }

    async fn write(
        &self,
        mut watermark: u64,
        epoch: u64,
        doubts: &mut watch::Receiver<u64>,
    ) -> Result<Ended, Trouble> {
        let mut closed = self.read_closed(watermark).await?;
        let mut reader = LogReader::open(self.jetstream.clone(), self.shard, None, watermark + 1);
        let mut tick = interval(NOTICE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut gathered = Instant::now();
        loop {
            let first = {
                // One question however long it takes: a reader that is asked anew each second
                // would never connect to a slow broker.
                let next = reader.next();
                tokio::pin!(next);
                loop {
                    tokio::select! {
                        read = &mut next => break read,
                        _ = tick.tick() => self.tell(epoch, watermark).await,
                        () = self.over() => return Ok(Ended::Stop),
                        _ = doubts.changed() => return Ok(Ended::Again),
                    }
                }
            };
            let batch = match first {
                Ok(first) => {
                    let rows = self.retries().rows();
                    feed::gather(&mut reader, first, gathered, rows).await
                }
                Err(error) => return Err(self.unread(error)),
            };
            gathered = Instant::now();
            self.seen.note(epoch, batch.last());
            self.commit(&batch, epoch, &mut watermark, &mut closed).await?;
            self.tell(epoch, watermark).await;
            tick.reset();
            if let Some(error) = batch.broken {
                return Err(self.unread(error));
            }
            if self.is_over() {
                return Ok(Ended::Stop);
            }
        }
    }

    fn unread(&self, error: ReadError) -> Trouble {
        match error {
            ReadError::Hole { expected, got } if got > expected => self.hole(expected, got - 1),
            error => Trouble::Passing(error.into()),
        }
    }

    async fn read_closed(&self, watermark: u64) -> anyhow::Result<ClosedRooms> {
        let mut writer = self.writers.take().await?;
        let read = timeout(TRANSACTION, ClosedRooms::read(writer.session(), self.shard, watermark)).await;
        let closed = read.context("the database did not answer in time")??;
        writer.give_back();
        Ok(closed)
    }

    async fn commit(
        &self,
        batch: &Batch,
        epoch: u64,
        watermark: &mut u64,
        closed: &mut ClosedRooms,
    ) -> Result<(), Trouble> {
        let held = u64::try_from(batch.events.len()).context("a batch is small")?;
        Meters::set(&self.meters.lag_messages, batch.pending + held);
        if let Some(oldest) = batch.events.first() {
            self.meters.lag_seconds.set((OffsetDateTime::now_utc() - oldest.time).as_seconds_f64().max(0.0));
        }
        let begun = Instant::now();
        let mut outcome = Outcome { watermark: *watermark, ..Outcome::default() };
        let mut writer = self.writers.take().await?;
        let run = apply::run(writer.session(), self.shard, epoch, batch, &self.retries, closed, &mut outcome);
        let written = timeout(TRANSACTION, run).await;
        let label = match &written {
            Ok(Ok(())) => "ok",
            Ok(Err(error)) => error.label(),
            Err(_) => "timed_out",
        };
        metrics::histogram!(PERSISTER_COMMIT_SECONDS, "outcome" => label).record(begun.elapsed());
        self.meters.rejected.increment(outcome.rejected);
        if outcome.after_closing > 0 {
            metrics::counter!(AFTER_CLOSING_TOTAL).increment(outcome.after_closing);
        }
        *watermark = outcome.watermark;
        self.note_watermark(outcome.watermark);
        match written {
            Ok(Ok(())) => {
                writer.give_back();
                self.due.note(self.shard);
                self.retries().written();
            }
            Ok(Err(ApplyError::Moved)) => {
                writer.give_back();
                return Err(Trouble::Passing(ApplyError::Moved.into()));
            }
            Ok(Err(error)) => {
                if matches!(error, ApplyError::TimedOut(_)) {
                    self.retries().timed_out(batch.events.len());
                }
                return Err(Trouble::Passing(error.into()));
            }
            Err(_) => {
                self.retries().timed_out(batch.events.len());
                return Err(Trouble::Passing(anyhow::anyhow!("the database did not answer in time")));
            }
        }
        self.meters.batch.record(u32::try_from(held).unwrap_or(u32::MAX));
        Meters::set(&self.meters.lag_messages, batch.pending);
        if batch.pending == 0 {
            self.meters.lag_seconds.set(0);
        }
        Ok(())
    }
}
