//! Which shards this process writes: those whose advisory locks its one lock session holds.
//!
//! The locks save work, no more: the compare-and-set of the watermark alone keeps two writers
//! apart. So a lock may be lost late, and work may go on for a moment after.

use std::{collections::HashMap, time::Duration};

use anyhow::Context as _;
use shared::{
    admin::Component,
    id::{Shard, ShardCount},
    lifecycle::Shutdown,
};
use sqlx::PgConnection;
use tokio::{sync::watch, time::timeout};

use crate::session::Database;

/// How often a free lock is tried for, and the lock session proves to be alive.
const EVERY: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(3);
/// The locks' class, apart from those of other programs on the same database.
const CLASS: i32 = 0x526f_6f6d;

/// Whether this process leads, for each shard.
pub(crate) struct Leads {
    shards: HashMap<Shard, watch::Sender<bool>>,
}

impl Leads {
    pub(crate) fn new(shards: ShardCount) -> Self {
        Self { shards: shards.all().map(|shard| (shard, watch::Sender::new(false))).collect() }
    }

    /// Tells whether this process leads the shard.
    pub(crate) fn of(&self, shard: Shard) -> watch::Receiver<bool> {
        self.shards.get(&shard).map_or_else(|| watch::channel(false).1, watch::Sender::subscribe)
    }

    fn free(&self) -> Vec<i32> {
        let free = self.shards.iter().filter(|(_, leads)| !*leads.borrow());
        free.map(|(shard, _)| i32::from(shard.number())).collect()
    }

    fn won(&self, numbers: &[i32]) {
        for (shard, leads) in &self.shards {
            if numbers.contains(&i32::from(shard.number())) {
                tracing::info!(%shard, "leading");
                leads.send_replace(true);
            }
        }
    }

    fn lost(&self) {
        for leads in self.shards.values() {
            leads.send_if_modified(std::mem::take);
        }
    }
}

/// Holds the locks, and takes those that come free, until the soft stop.
pub(crate) async fn hold(
    database: Database,
    leads: std::sync::Arc<Leads>,
    component: Component,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut held = None;
    loop {
        match round(&database, &mut held, &leads).await {
            Ok(()) => component.ready(),
            Err(error) => {
                held = None;
                leads.lost();
                component.not_ready(format!("{error:#}"));
                tracing::warn!(error = format!("{error:#}"), "the lock session is lost");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.soft.cancelled() => return Ok(()),
        }
    }
}

/// One round: the locks that are free are tried for; those that are held are held while it answers.
async fn round(database: &Database, held: &mut Option<PgConnection>, leads: &Leads) -> anyhow::Result<()> {
    if held.is_none() {
        *held = Some(database.connect().await?);
    }
    let session = held.as_mut().context("opened above")?;
    let query = sqlx::query_scalar::<_, i32>(
        "SELECT n FROM unnest($2::int4[]) AS n WHERE pg_try_advisory_lock($1, n)",
    )
    .bind(CLASS)
    .bind(leads.free())
    .fetch_all(session);
    let won = timeout(ANSWER, query).await.context("the database did not answer in time")??;
    leads.won(&won);
    Ok(())
}
