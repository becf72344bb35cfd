//! Full-text search, filled behind the watermark from what each batch has noted to be done.
//!
//! What must hold: a statement that indexes some of it takes these from the note, so whoever dies when,
//! nothing is forgotten. A message is read after what made it due was committed: the last time it is due
//! it is found as it stays. At most half of one session's time goes into it.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use metrics::Counter;
use shared::{id::Shard, lifecycle::Shutdown, metric_names as names};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::{lead::Leads, session::Writers};

/// Messages indexed by one statement.
const SLICE: i32 = 500;
/// How long it waits for more once something is due: a step costs much the same however little it indexes.
const GATHER: Duration = Duration::from_millis(500);
/// How often every shard is looked at: another process may have left some to do.
const EVERY: Duration = Duration::from_secs(5);
/// More than a statement may take: a session that is silent for longer is lost.
const ANSWER: Duration = Duration::from_secs(15);

/// Shards in which this process has made messages due.
#[derive(Default)]
pub(crate) struct Due {
    shards: Mutex<BTreeSet<Shard>>,
    wake: Notify,
}

impl Due {
    /// A batch of that shard was written.
    pub(crate) fn note(&self, shard: Shard) {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).insert(shard);
        self.wake.notify_one();
    }

    /// Some were noted a while ago. Whoever stops to wait looks at all that was noted.
    async fn gathered(&self) {
        self.wake.notified().await;
        sleep(GATHER).await;
    }

    fn take(&self) -> BTreeSet<Shard> {
        std::mem::take(&mut *self.shards.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One atomic step: reads what is due first, indexes the beginning of it, and takes that from the notes.
/// `$1` = the shard, `$2` = how many at most. A text longer than any that api takes counts by its
/// beginning, so that no message is too much for a `tsvector`.
const STEP: &str = "
WITH first AS (
    SELECT after_seq, rooms, ids FROM search_due WHERE shard = $1 ORDER BY after_seq LIMIT $2 FOR UPDATE
), due AS (
    SELECT *, $2 - (sum(cardinality(ids)) OVER (ORDER BY after_seq) - cardinality(ids))::int AS free FROM first
), part AS (
    SELECT after_seq, free, cardinality(ids) > free AS more, rooms[:free] AS rooms, ids[:free] AS ids
    FROM due WHERE free > 0
), touched AS (
    SELECT DISTINCT m.room, m.id, m.created_at, m.body, m.deleted_at
    FROM part CROSS JOIN unnest(part.rooms, part.ids) AS one (room, id)
    JOIN message m ON m.shard = $1 AND m.room = one.room AND m.id = one.id
), filled AS (
    INSERT INTO message_search (shard, room, id, created_at, words)
    SELECT $1, room, id, created_at, to_tsvector('simple', left(body, 16384))
    FROM touched WHERE deleted_at IS NULL
    ON CONFLICT (shard, room, id) DO UPDATE SET words = excluded.words
), emptied AS (
    DELETE FROM message_search s USING touched t
    WHERE t.deleted_at IS NOT NULL AND s.shard = $1 AND s.room = t.room AND s.id = t.id
), finished AS (
    DELETE FROM search_due d USING part
    WHERE NOT part.more AND d.shard = $1 AND d.after_seq = part.after_seq
), shortened AS (
    UPDATE search_due d SET rooms = d.rooms[free + 1:], ids = d.ids[free + 1:] FROM part
    WHERE part.more AND d.shard = $1 AND d.after_seq = part.after_seq
)
SELECT (SELECT count(*) FROM touched), (SELECT coalesce(sum(cardinality(ids)), 0) >= $2 FROM part)";

/// Fills it until the soft stop.
pub(crate) async fn fill(
    sessions: Writers,
    leads: Arc<Leads>,
    due: Arc<Due>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let indexed = metrics::counter!(names::SEARCH_INDEXED_TOTAL);
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut todo, mut pause) = (VecDeque::new(), Duration::ZERO);
    loop {
        tokio::select! {
            () = shutdown.soft.cancelled() => return Ok(()),
            _ = tick.tick() => {
                due.shards.lock().unwrap_or_else(PoisonError::into_inner).extend(leads.led());
                if let Err(error) = measure(&sessions, &leads).await {
                    tracing::debug!(error = format!("{error:#}"), "how far the search index lags");
                }
            }
            () = due.gathered(), if todo.is_empty() => {}
            () = sleep(pause), if !todo.is_empty() => {}
        }
        if todo.is_empty() {
            todo.extend(due.take());
        }
        let Some(shard) = todo.pop_front() else { continue };
        let begun = Instant::now();
        match step(&sessions, shard, &indexed).await {
            Ok(is_full) => todo.extend(is_full.then_some(shard)),
            // The next tick tries again.
            Err(error) => {
                tracing::warn!(%shard, error = format!("{error:#}"), "messages are not indexed yet");
            }
        }
        pause = begun.elapsed();
    }
}

/// Does a slice of what is due first in a shard; true where more may be due.
async fn step(sessions: &Writers, shard: Shard, indexed: &Counter) -> anyhow::Result<bool> {
    let mut writer = sessions.take().await?;
    let step = sqlx::query_as::<_, (i64, bool)>(STEP).bind(shard.number()).bind(SLICE);
    let done = timeout(ANSWER, step.fetch_one(writer.session())).await;
    let (count, is_full) = done.context("the database did not answer in time")??;
    writer.give_back();
    indexed.increment(count.unsigned_abs());
    Ok(is_full)
}

/// Says how long what is due has waited.
async fn measure(sessions: &Writers, leads: &Leads) -> anyhow::Result<()> {
    let mut writer = sessions.take().await?;
    let asked = sqlx::query_as::<_, (i16, f64)>(
        "SELECT shard, extract(epoch FROM now() - min(due_at))::float8 FROM search_due GROUP BY shard",
    );
    let waiting = timeout(ANSWER, asked.fetch_all(writer.session())).await;
    let waiting = waiting.context("the database did not answer in time")??;
    writer.give_back();
    for shard in leads.shards() {
        let age = waiting.iter().find(|(number, _)| *number == shard.number()).map_or(0.0, |(_, age)| *age);
        metrics::gauge!(names::SEARCH_LAG_SECONDS, "shard" => shard.to_string()).set(age);
    }
    Ok(())
}
