//! Decides which shards this process writes: those whose advisory locks its one lock session holds.
//!
//! The locks only avoid duplicate work; what keeps two writers apart is the watermark's compare-and-set. So a process
//! may go on writing for a moment after its lock is lost. A shard that can't go on is released at once, and its lock is
//! tried again a second later; `roomcast recover`, if it waits for the lock, gets it in between.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use protocol::id::{Shard, ShardCount};
use service::{admin::HealthComponent, lifecycle::Shutdown};
use sqlx::PgConnection;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use crate::database::DatabaseConnector;

/// How often free locks are tried, which also checks that the lock session is alive.
const LOCK_CHECK_INTERVAL: Duration = Duration::from_secs(1);
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);
/// First key of the advisory locks, which keeps them apart from other programs' locks: "Room" in ASCII.
const LOCK_CLASS: i32 = 0x526f_6f6d;

/// Whether this process leads, for each shard.
pub(crate) struct Leadership {
    leading_by_shard: HashMap<Shard, watch::Sender<bool>>,
    /// Numbers of the shards whose locks are to be released.
    locks_to_release: Mutex<Vec<i32>>,
    wake: Notify,
}

/// Whether this process leads one shard.
#[derive(Clone)]
pub(crate) struct ShardLeadership {
    leadership: Arc<Leadership>,
    shard: Shard,
}

impl ShardLeadership {
    pub(crate) const fn new(leadership: Arc<Leadership>, shard: Shard) -> Self {
        Self { leadership, shard }
    }

    /// Watches whether this process leads the shard.
    pub(crate) fn subscribe(&self) -> watch::Receiver<bool> {
        let sender = self.leadership.leading_by_shard.get(&self.shard);
        sender.map_or_else(|| watch::channel(false).1, watch::Sender::subscribe)
    }

    /// Stops leading the shard and releases its lock. The lock is tried again with the next check.
    pub(crate) fn release(&self) {
        if let Some(sender) = self.leadership.leading_by_shard.get(&self.shard) {
            sender.send_replace(false);
        }
        self.leadership.locks_to_release().push(i32::from(self.shard.number()));
        self.leadership.wake.notify_one();
    }
}

impl Leadership {
    pub(crate) fn new(shards: ShardCount) -> Self {
        let shards = shards.all().map(|shard| (shard, watch::Sender::new(false))).collect();
        Self { leading_by_shard: shards, locks_to_release: Mutex::default(), wake: Notify::new() }
    }

    fn locks_to_release(&self) -> std::sync::MutexGuard<'_, Vec<i32>> {
        self.locks_to_release.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All shards of the deployment.
    pub(crate) fn shards(&self) -> impl Iterator<Item = Shard> {
        self.leading_by_shard.keys().copied()
    }

    /// The shards that this process leads.
    pub(crate) fn led_shards(&self) -> impl Iterator<Item = Shard> {
        self.leading_by_shard.iter().filter(|(_, is_leading)| *is_leading.borrow()).map(|(shard, _)| *shard)
    }

    fn locks_not_held(&self) -> Vec<i32> {
        let not_leading = self.leading_by_shard.iter().filter(|(_, is_leading)| !*is_leading.borrow());
        not_leading.map(|(shard, _)| i32::from(shard.number())).collect()
    }

    fn mark_leading(&self, shard_numbers: &[i32]) {
        for (shard, is_leading) in &self.leading_by_shard {
            if shard_numbers.contains(&i32::from(shard.number())) {
                tracing::info!(%shard, "this process leads the shard now");
                is_leading.send_replace(true);
            }
        }
    }

    fn mark_all_lost(&self) {
        self.locks_to_release().clear();
        for is_leading in self.leading_by_shard.values() {
            is_leading.send_if_modified(std::mem::take);
        }
    }
}

/// Holds the locks, and acquires those that become free, until the soft stop.
pub(crate) async fn run_lock_session(
    database: DatabaseConnector,
    leadership: Arc<Leadership>,
    component: HealthComponent,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut lock_session = None;
    let mut can_acquire = true;
    loop {
        match update_locks(&database, &mut lock_session, &leadership, can_acquire).await {
            Ok(()) => component.ready(),
            Err(error) => {
                lock_session = None;
                leadership.mark_all_lost();
                component.not_ready(format!("{error:#}"));
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the lock session was lost: this process leads no shard until it is back"
                );
            }
        }
        can_acquire = tokio::select! {
            () = tokio::time::sleep(LOCK_CHECK_INTERVAL) => true,
            () = leadership.wake.notified() => false,
            () = shutdown.soft.cancelled() => return Ok(()),
        };
    }
}

/// Runs one round: releases the locks of `locks_to_release`, and tries those not held if `can_acquire` is set. After
/// an error the session, and with it every lock, counts as lost.
async fn update_locks(
    database: &DatabaseConnector,
    lock_session: &mut Option<PgConnection>,
    leadership: &Leadership,
    can_acquire: bool,
) -> anyhow::Result<()> {
    if lock_session.is_none() {
        *lock_session = Some(database.connect().await?);
    }
    let session = lock_session.as_mut().context("the lock session is not open")?;
    let released = std::mem::take(&mut *leadership.locks_to_release());
    if !released.is_empty() {
        let query = sqlx::query("SELECT pg_advisory_unlock($1, n) FROM unnest($2::int4[]) AS n")
            .bind(LOCK_CLASS)
            .bind(released)
            .execute(&mut *session);
        timeout(QUERY_TIMEOUT, query).await.context("the database did not answer in time")??;
    }
    if can_acquire {
        let query = sqlx::query_scalar::<_, i32>(
            "SELECT n FROM unnest($2::int4[]) AS n WHERE pg_try_advisory_lock($1, n)",
        )
        .bind(LOCK_CLASS)
        .bind(leadership.locks_not_held())
        .fetch_all(session);
        let acquired =
            timeout(QUERY_TIMEOUT, query).await.context("the database did not answer in time")??;
        leadership.mark_leading(&acquired);
    }
    Ok(())
}

/// Waits for a shard's lock, up to the session's `lock_timeout`, and holds it until it is released or the session ends.
/// Returns false if another process still holds it.
pub(crate) async fn acquire_lock(session: &mut PgConnection, shard: Shard) -> sqlx::Result<bool> {
    let result = sqlx::query("SELECT pg_advisory_lock($1, $2)")
        .bind(LOCK_CLASS)
        .bind(i32::from(shard.number()))
        .execute(session)
        .await;
    match result {
        Ok(_) => Ok(true),
        // `lock_not_available`: `lock_timeout` has passed.
        Err(error) if error.as_database_error().and_then(|e| e.code()).as_deref() == Some("55P03") => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Releases a lock that [`acquire_lock`] has acquired.
pub(crate) async fn release_lock(session: &mut PgConnection, shard: Shard) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_advisory_unlock($1, $2)")
        .bind(LOCK_CLASS)
        .bind(i32::from(shard.number()))
        .execute(session)
        .await?;
    Ok(())
}
