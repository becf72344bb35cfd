//! Fills the full-text index behind the watermark, from the messages that each batch lists in `search_due`.
//!
//! A trigger of `search_due` fills the keys of messages, whichever version of this program deletes from it.
//!
//! What must hold: the transaction that indexes messages also removes them from `search_due`, so a crash at any moment
//! loses none. A message is read after the change that made it due was committed, so the last time it is due, its final
//! state is indexed. Indexing takes at most half of one session's time. A message that can't be indexed is skipped, so
//! that those behind it do not wait for it; none is skipped because the database is slow.

mod indexing;
mod retries;
mod text_runs;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use metrics::Counter;
use protocol::id::Shard;
use service::{lifecycle::Shutdown, metric_names as names};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use self::retries::{IndexingFailure, SearchRetries};
use crate::{
    database::{DatabaseFailure, SessionPool},
    leadership::Leadership,
};

/// Pause before a step, so that it indexes more messages: a step costs much the same however little it indexes.
const INDEXING_DELAY: Duration = Duration::from_secs(1);
/// How often all shards that this process leads are queued: another process may have left messages due.
const SCAN_INTERVAL: Duration = Duration::from_secs(5);
/// `statement_timeout` of the indexing session: the other shards wait meanwhile.
pub(crate) const STATEMENT_TIMEOUT: &str = "5s";
/// Time-out of a step, longer than a statement may take: after it the session counts as lost.
const QUERY_TIMEOUT: Duration = Duration::from_secs(15);

/// Shards in which this process has made messages due.
#[derive(Default)]
pub(crate) struct SearchQueue {
    shards: Mutex<BTreeSet<Shard>>,
    wake: Notify,
}

impl SearchQueue {
    /// Queues a shard, after a batch of it was committed.
    pub(crate) fn push(&self, shard: Shard) {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).insert(shard);
        self.wake.notify_one();
    }

    /// Waits until a shard is queued, and then for [`INDEXING_DELAY`]. Cancellation may consume the wake-up, so the
    /// caller must look at the queue in any case.
    async fn wait_for_shards(&self) {
        self.wake.notified().await;
        sleep(INDEXING_DELAY).await;
    }

    fn take_all(&self) -> BTreeSet<Shard> {
        std::mem::take(&mut *self.shards.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Indexes due messages until the soft stop.
pub(crate) async fn run_indexer(
    sessions: SessionPool,
    leadership: Arc<Leadership>,
    queue: Arc<SearchQueue>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let indexed = metrics::counter!(names::SEARCH_INDEXED_TOTAL);
    let mut tick = interval(SCAN_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut pending_shards, mut pause) = (VecDeque::new(), Duration::ZERO);
    let mut retries: HashMap<Shard, SearchRetries> = HashMap::new();
    loop {
        tokio::select! {
            () = shutdown.soft.cancelled() => return Ok(()),
            _ = tick.tick() => {
                queue.shards.lock().unwrap_or_else(PoisonError::into_inner).extend(leadership.led_shards());
                if let Err(error) = update_lag_metrics(&sessions, &leadership).await {
                    tracing::debug!(
                        error = format!("{error:#}"),
                        "the lag of the search index was not measured"
                    );
                }
            }
            () = queue.wait_for_shards(), if pending_shards.is_empty() => {}
            () = sleep(pause), if !pending_shards.is_empty() => {}
        }
        if pending_shards.is_empty() {
            pending_shards.extend(queue.take_all());
        }
        let Some(shard) = pending_shards.pop_front() else { continue };
        let begun = Instant::now();
        match run_step(&sessions, shard, retries.entry(shard).or_default(), &indexed).await {
            Ok(has_more) => pending_shards.extend(has_more.then_some(shard)),
            // The next tick tries again.
            Err(error) => {
                tracing::warn!(
                    %shard,
                    error = format!("{error:#}"),
                    "messages were not indexed: the next scan tries again"
                );
            }
        }
        pause = begun.elapsed();
    }
}

/// Indexes a slice of the messages that are due first in a shard. Returns whether more may be due. An error is one of
/// the database, not of a message: a later step may succeed.
async fn run_step(
    sessions: &SessionPool,
    shard: Shard,
    retries: &mut SearchRetries,
    indexed: &Counter,
) -> anyhow::Result<bool> {
    let mut pooled = sessions.take().await?;
    let outcome =
        timeout(QUERY_TIMEOUT, indexing::index_due(pooled.session(), shard, retries.messages_max())).await;
    let error = match outcome.context("the database did not answer in time")? {
        Ok(outcome) => {
            pooled.give_back();
            indexed.increment(outcome.indexed_messages);
            retries.note_done(outcome.done_messages);
            return Ok(outcome.has_more);
        }
        Err(error) => DatabaseFailure::from(error),
    };
    // Dropped, not given back: the session may be inside the transaction that failed.
    drop(pooled);
    let failure = match error {
        DatabaseFailure::Lost(_) => return Err(error.into()),
        DatabaseFailure::Data(_) => IndexingFailure::Data,
        DatabaseFailure::TimedOut(_) if retries.is_single() && !is_slow_to_parse(sessions, shard).await? => {
            IndexingFailure::SlowDatabase
        }
        DatabaseFailure::TimedOut(_) | DatabaseFailure::Unexplained(_) => IndexingFailure::Unexplained,
    };
    let is_skipped = retries.note_failure(failure);
    if failure == IndexingFailure::SlowDatabase {
        return Err(error.into());
    }
    tracing::warn!(%shard, %error, "messages were not indexed: trying them one by one");
    if is_skipped {
        let mut pooled = sessions.take().await?;
        let skipped = timeout(QUERY_TIMEOUT, indexing::skip_first(pooled.session(), shard)).await;
        let skipped = skipped.context("the database did not answer in time")??;
        pooled.give_back();
        retries.note_done(1);
        metrics::counter!(names::SEARCH_SKIPPED_TOTAL).increment(1);
        tracing::error!(%shard, room_and_id = ?skipped, %error, "a message can't be indexed: skipped");
    }
    Ok(true)
}

/// Calls [`indexing::is_slow_to_parse`] in a session of its own.
async fn is_slow_to_parse(sessions: &SessionPool, shard: Shard) -> anyhow::Result<bool> {
    let mut pooled = sessions.take().await?;
    let is_slow = timeout(QUERY_TIMEOUT, indexing::is_slow_to_parse(pooled.session(), shard)).await;
    let is_slow = is_slow.context("the database did not answer in time")??;
    pooled.give_back();
    Ok(is_slow)
}

/// Sets the lag gauge of each shard to the age of its oldest due message.
async fn update_lag_metrics(sessions: &SessionPool, leadership: &Leadership) -> anyhow::Result<()> {
    let mut pooled = sessions.take().await?;
    let query = sqlx::query_as::<_, (i16, f64)>(
        "SELECT shard, extract(epoch FROM now() - min(due_at))::float8 FROM search_due GROUP BY shard",
    );
    let oldest_ages = timeout(QUERY_TIMEOUT, query.fetch_all(pooled.session())).await;
    let oldest_ages = oldest_ages.context("the database did not answer in time")??;
    pooled.give_back();
    for shard in leadership.shards() {
        let age =
            oldest_ages.iter().find(|(number, _)| *number == shard.number()).map_or(0.0, |(_, age)| *age);
        metrics::gauge!(names::SEARCH_LAG_SECONDS, "shard" => shard.to_string()).set(age);
    }
    Ok(())
}
