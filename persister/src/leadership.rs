//! Decides which shards this process writes: those whose advisory locks its one lock session holds.
//!
//! The locks save work, no more: the compare-and-set of the watermark alone keeps two writers
//! apart. So a lock may be lost late, and work may go on for a moment after. A shard that can't go
//! on is given up at once and tried for again a second later: whoever repairs it waits for its lock
//! and gets it then.

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

/// How often a free lock is tried for, and the lock session proves to be alive.
const LOCK_CHECK_INTERVAL: Duration = Duration::from_secs(1);
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);
/// The locks' class, apart from those of other programs on the same database.
const LOCK_CLASS: i32 = 0x526f_6f6d;

/// Whether this process leads, for each shard.
pub(crate) struct Leadership {
    leading_by_shard: HashMap<Shard, watch::Sender<bool>>,
    /// Locks to give back, and that there are such.
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
    pub(crate) const fn new(leads: Arc<Leadership>, shard: Shard) -> Self {
        Self { leadership: leads, shard }
    }

    /// Tells it, now and when it changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<bool> {
        let sender = self.leadership.leading_by_shard.get(&self.shard);
        sender.map_or_else(|| watch::channel(false).1, watch::Sender::subscribe)
    }

    /// Gives the shard's lock back, to be tried for again.
    pub(crate) fn release(&self) {
        if let Some(lead) = self.leadership.leading_by_shard.get(&self.shard) {
            lead.send_replace(false);
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

    /// All shards there are.
    pub(crate) fn shards(&self) -> impl Iterator<Item = Shard> {
        self.leading_by_shard.keys().copied()
    }

    /// Those that this process leads.
    pub(crate) fn led_shards(&self) -> impl Iterator<Item = Shard> {
        self.leading_by_shard.iter().filter(|(_, leads)| *leads.borrow()).map(|(shard, _)| *shard)
    }

    fn locks_not_held(&self) -> Vec<i32> {
        let free = self.leading_by_shard.iter().filter(|(_, leads)| !*leads.borrow());
        free.map(|(shard, _)| i32::from(shard.number())).collect()
    }

    fn mark_leading(&self, numbers: &[i32]) {
        for (shard, leads) in &self.leading_by_shard {
            if numbers.contains(&i32::from(shard.number())) {
                tracing::info!(%shard, "leading");
                leads.send_replace(true);
            }
        }
    }

    fn mark_all_lost(&self) {
        self.locks_to_release().clear();
        for leads in self.leading_by_shard.values() {
            leads.send_if_modified(std::mem::take);
        }
    }
}

/// Holds the locks, and takes those that come free, until the soft stop.
pub(crate) async fn run_lock_session(
    database: DatabaseConnector,
    leadership: Arc<Leadership>,
    component: HealthComponent,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut held = None;
    let mut can_acquire = true;
    loop {
        match update_locks(&database, &mut held, &leadership, can_acquire).await {
            Ok(()) => component.ready(),
            Err(error) => {
                held = None;
                leadership.mark_all_lost();
                component.not_ready(format!("{error:#}"));
                tracing::warn!(error = format!("{error:#}"), "the lock session is lost");
            }
        }
        can_acquire = tokio::select! {
            () = tokio::time::sleep(LOCK_CHECK_INTERVAL) => true,
            () = leadership.wake.notified() => false,
            () = shutdown.soft.cancelled() => return Ok(()),
        };
    }
}

/// One round: locks that were given up are given back; then, where `take` says so, those that are free
/// are tried for; those that are held are held while it answers.
async fn update_locks(
    database: &DatabaseConnector,
    held: &mut Option<PgConnection>,
    leadership: &Leadership,
    can_acquire: bool,
) -> anyhow::Result<()> {
    if held.is_none() {
        *held = Some(database.connect().await?);
    }
    let session = held.as_mut().context("opened above")?;
    let given_up = std::mem::take(&mut *leadership.locks_to_release());
    if !given_up.is_empty() {
        let query = sqlx::query("SELECT pg_advisory_unlock($1, n) FROM unnest($2::int4[]) AS n")
            .bind(LOCK_CLASS)
            .bind(given_up)
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
        let won = timeout(QUERY_TIMEOUT, query).await.context("the database did not answer in time")??;
        leadership.mark_leading(&won);
    }
    Ok(())
}

/// Waits for a shard's lock, as long as the session waits for any, and holds it for the session's life.
/// False where another process kept it.
pub(crate) async fn acquire_lock(session: &mut PgConnection, shard: Shard) -> sqlx::Result<bool> {
    let locked = sqlx::query("SELECT pg_advisory_lock($1, $2)")
        .bind(LOCK_CLASS)
        .bind(i32::from(shard.number()))
        .execute(session)
        .await;
    match locked {
        Ok(_) => Ok(true),
        // The lock was not to be had in time.
        Err(error) if error.as_database_error().and_then(|e| e.code()).as_deref() == Some("55P03") => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Gives back a lock that was waited for.
pub(crate) async fn release_lock(session: &mut PgConnection, shard: Shard) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_advisory_unlock($1, $2)")
        .bind(LOCK_CLASS)
        .bind(i32::from(shard.number()))
        .execute(session)
        .await?;
    Ok(())
}
