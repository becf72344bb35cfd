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

    fn take(&self) -> BTreeSet<Shard> {
        std::mem::take(&mut *self.shards.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One atomic step: reads what is due first, indexes the beginning of it, and takes that from the note.
/// `$1` = the shard, `$2` = how many. A text longer than any that api takes counts by its beginning, so
/// that no message is too much for a `tsvector`.
const STEP: &str = "
WITH due AS (
    SELECT after_seq, cardinality(ids) > $2 AS more, rooms[:$2] AS rooms, ids[:$2] AS ids
    FROM search_due WHERE shard = $1 ORDER BY after_seq LIMIT 1 FOR UPDATE
), touched AS (
    SELECT DISTINCT m.room, m.id, m.created_at, m.body, m.deleted_at
    FROM due CROSS JOIN unnest(due.rooms, due.ids) AS part (room, id)
    JOIN message m ON m.shard = $1 AND m.room = part.room AND m.id = part.id
), filled AS (
    INSERT INTO message_search (shard, room, id, created_at, words)
    SELECT $1, room, id, created_at, to_tsvector('simple', left(body, 16384))
    FROM touched WHERE deleted_at IS NULL
    ON CONFLICT (shard, room, id) DO UPDATE SET words = excluded.words
), emptied AS (
    DELETE FROM message_search s USING touched t
    WHERE t.deleted_at IS NOT NULL AND s.shard = $1 AND s.room = t.room AND s.id = t.id
), finished AS (
    DELETE FROM search_due d USING due
    WHERE NOT due.more AND d.shard = $1 AND d.after_seq = due.after_seq
), shortened AS (
    UPDATE search_due d SET rooms = d.rooms[$2 + 1:], ids = d.ids[$2 + 1:] FROM due
    WHERE due.more AND d.shard = $1 AND d.after_seq = due.after_seq
)
SELECT (SELECT count(*) FROM touched) FROM due";

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
            () = due.wake.notified(), if todo.is_empty() => {}
            () = sleep(pause), if !todo.is_empty() => {}
        }
        for shard in due.take() {
            if !todo.contains(&shard) {
                todo.push_back(shard);
            }
        }
        let Some(shard) = todo.pop_front() else { continue };
        let begun = Instant::now();
        match step(&sessions, shard, &indexed).await {
            Ok(true) => todo.push_back(shard),
            Ok(false) => {}
            // The next tick tries again.
            Err(error) => {
                tracing::warn!(%shard, error = format!("{error:#}"), "messages are not indexed yet");
            }
        }
        pause = begun.elapsed();
    }
}

/// Does a slice of what is due first in a shard; false where nothing is.
async fn step(sessions: &Writers, shard: Shard, indexed: &Counter) -> anyhow::Result<bool> {
    let mut writer = sessions.take().await?;
    let step = sqlx::query_scalar::<_, i64>(STEP).bind(shard.number()).bind(SLICE);
    let done = timeout(ANSWER, step.fetch_optional(writer.session())).await;
    let done = done.context("the database did not answer in time")??;
    writer.give_back();
    indexed.increment(done.map_or(0, |count| count.unsigned_abs()));
    Ok(done.is_some())
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
