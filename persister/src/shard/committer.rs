//! Commits the batches of all shards that this process leads: one transaction writes what several of them have, because
//! a transaction costs much the same however little it writes.
//!
//! One such transaction runs at a time. Others run beside it only while more is waiting than one takes. A transaction
//! that fails for its data, or for an unknown cause, has written nothing: each of its batches is then applied alone, so
//! that a bad event concerns only its own shard. A shard that failed lately is not put together with others.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use service::metric_names::{PERSISTER_COMMIT_SECONDS, PERSISTER_GROUP_SHARDS};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    database::{DatabaseFailure, SessionPool},
    shard::apply::{
        ApplyError,
        batch::{ShardBatch, apply_alone, apply_together},
        plan::is_batch_full,
    },
};

/// Time-out of a transaction, longer than one statement may take: after it the session counts as lost.
pub(crate) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the first batch waits for those of other shards, which end their own waiting at the same moment.
const GATHER: Duration = Duration::from_millis(1);

/// Why a batch was not written, or may not have been.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// See [`ApplyError`].
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// No session was free, or none could be opened: nothing was written.
    #[error("{0:#}")]
    NoSession(anyhow::Error),
    /// The transaction of several shards was lost: it may be committed or not.
    #[error("the transaction of several shards was lost: {0}")]
    Lost(String),
    /// Postgres did not answer within [`TRANSACTION_TIMEOUT`].
    #[error("the database did not answer in time")]
    NoAnswer,
}

impl CommitError {
    /// Whether the batch may have been too large for the time.
    pub(crate) const fn is_timeout(&self) -> bool {
        matches!(self, Self::NoAnswer | Self::Apply(ApplyError::Database(DatabaseFailure::TimedOut(_))))
    }

    const fn metric_label(&self) -> &'static str {
        match self {
            Self::Apply(error) => error.metric_label(),
            Self::NoSession(_) => "no_session",
            Self::Lost(_) => "lost",
            Self::NoAnswer => "timed_out",
        }
    }
}

/// What became of a batch.
pub(crate) struct Committed {
    pub(crate) batch: ShardBatch,
    pub(crate) result: Result<(), CommitError>,
}

struct CommitRequest {
    batch: ShardBatch,
    reply: oneshot::Sender<Committed>,
}

impl CommitRequest {
    fn answer(self, result: Result<(), CommitError>) {
        // The worker of the shard has ended if nobody receives it.
        let _ = self.reply.send(Committed { batch: self.batch, result });
    }
}

/// A handle to the committer, which every shard's worker has.
#[derive(Clone)]
pub(crate) struct Committer {
    requests: mpsc::Sender<CommitRequest>,
    last_begun_at: Arc<Mutex<Instant>>,
}

impl Committer {
    /// When the last transaction began.
    pub(crate) fn last_begun_at(&self) -> Instant {
        *self.last_begun_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a batch, together with those that other shards have at the same time.
    ///
    /// # Errors
    /// When the committer's task is gone.
    pub(crate) async fn commit(&self, batch: ShardBatch) -> anyhow::Result<Committed> {
        let (reply, replied) = oneshot::channel();
        let sent = self.requests.send(CommitRequest { batch, reply }).await;
        sent.ok().context("the committer has ended")?;
        replied.await.context("the committer has ended")
    }
}

/// Whether batches of several shards are written in one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupCommit {
    On,
    /// One transaction for each batch: for databases on which a transaction over several shards costs more.
    Off,
}

/// The task that commits.
pub(crate) struct CommitterTask {
    requests: mpsc::Receiver<CommitRequest>,
    last_begun_at: Arc<Mutex<Instant>>,
    sessions: SessionPool,
    group_commit: GroupCommit,
    waiting: VecDeque<CommitRequest>,
    running: JoinSet<Finished>,
    /// Number of running transactions, without those that apply one suspect shard alone.
    regular_running: usize,
}

/// What a transaction that has ended leaves to do.
struct Finished {
    /// Whether it counts among `regular_running`.
    was_regular: bool,
    /// Batches to apply alone.
    split: Vec<CommitRequest>,
}

/// Makes the committer for `shards` workers, and its task.
pub(crate) fn new(
    shards: usize,
    sessions: SessionPool,
    group_commit: GroupCommit,
) -> (Committer, CommitterTask) {
    // Each worker waits for its answer, so there is never more than one request of a shard.
    let (requests, receiver) = mpsc::channel(shards);
    let last_begun_at = Arc::new(Mutex::new(Instant::now()));
    let task = CommitterTask {
        requests: receiver,
        last_begun_at: last_begun_at.clone(),
        sessions,
        group_commit,
        waiting: VecDeque::new(),
        running: JoinSet::new(),
        regular_running: 0,
    };
    (Committer { requests, last_begun_at }, task)
}

impl CommitterTask {
    /// Commits until all workers have ended.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                request = self.requests.recv() => {
                    let Some(request) = request else { break };
                    self.waiting.push_back(request);
                    if self.group_commit == GroupCommit::On && self.regular_running == 0 && !self.is_full() {
                        sleep(GATHER).await;
                    }
                }
                Some(finished) = self.running.join_next() => self.note_finished(finished?),
            }
            while let Ok(request) = self.requests.try_recv() {
                self.waiting.push_back(request);
            }
            self.begin_transactions();
        }
        while let Some(finished) = self.running.join_next().await {
            self.note_finished(finished?);
            self.begin_transactions();
        }
        Ok(())
    }

    fn note_finished(&mut self, finished: Finished) {
        self.regular_running -= usize::from(finished.was_regular);
        for request in finished.split {
            self.running.spawn(commit_alone(self.sessions.clone(), request, false));
        }
    }

    /// Begins transactions for what is waiting, as far as that is not left for the end of the one that runs.
    fn begin_transactions(&mut self) {
        while !self.waiting.is_empty() && self.regular_running < self.sessions.max_sessions() {
            if self.group_commit == GroupCommit::On && self.regular_running > 0 && !self.is_full() {
                return;
            }
            *self.last_begun_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            let mut group = self.take_group();
            let sessions = self.sessions.clone();
            if group.len() > 1 {
                self.regular_running += 1;
                self.running.spawn(commit_together(sessions, group));
            } else if let Some(only) = group.pop() {
                let is_regular = !only.batch.is_suspect();
                self.regular_running += usize::from(is_regular);
                self.running.spawn(commit_alone(sessions, only, is_regular));
            }
        }
    }

    /// Whether more is waiting than one transaction takes.
    fn is_full(&self) -> bool {
        let events = self.waiting.iter().map(|request| request.batch.events.len()).sum();
        let bytes = self.waiting.iter().map(|request| request.batch.bytes).sum();
        is_batch_full(events, bytes)
    }

    /// Takes the batches of the next transaction: at least one.
    fn take_group(&mut self) -> Vec<CommitRequest> {
        let mut group: Vec<CommitRequest> = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        while let Some(next) = self.waiting.front() {
            let is_single = self.group_commit == GroupCommit::Off || next.batch.is_suspect();
            if !group.is_empty() && (is_single || is_batch_full(events, bytes)) {
                break;
            }
            events += next.batch.events.len();
            bytes += next.batch.bytes;
            group.extend(self.waiting.pop_front());
            if is_single {
                break;
            }
        }
        group
    }
}

/// Writes the batch of one shard in transactions of its own.
async fn commit_alone(sessions: SessionPool, mut request: CommitRequest, is_regular: bool) -> Finished {
    let begun = Instant::now();
    let result = match sessions.take().await {
        Err(error) => Err(CommitError::NoSession(error)),
        Ok(mut writer) => {
            let run = apply_alone(writer.session(), &mut request.batch);
            match timeout(TRANSACTION_TIMEOUT, run).await {
                Ok(result) => {
                    // Any other failure leaves the session in an unknown state: it is closed.
                    if matches!(result, Ok(()) | Err(ApplyError::WatermarkMoved)) {
                        writer.give_back();
                    }
                    result.map_err(CommitError::Apply)
                }
                Err(_) => Err(CommitError::NoAnswer),
            }
        }
    };
    record(begun, 1, result.as_ref().map_err(CommitError::metric_label).err());
    request.answer(result);
    Finished { was_regular: is_regular, split: Vec::new() }
}

/// Writes the batches of several shards in one transaction.
async fn commit_together(sessions: SessionPool, group: Vec<CommitRequest>) -> Finished {
    let begun = Instant::now();
    let shards = group.len();
    let (mut batches, replies): (Vec<_>, Vec<_>) =
        group.into_iter().map(|request| (request.batch, request.reply)).unzip();
    let result = match sessions.take().await {
        Err(error) => Err(CommitError::NoSession(error)),
        Ok(mut writer) => {
            match timeout(TRANSACTION_TIMEOUT, apply_together(writer.session(), &mut batches)).await {
                Ok(Ok(unmoved)) => {
                    writer.give_back();
                    Ok(unmoved)
                }
                Ok(Err(error)) => Err(CommitError::Apply(error)),
                Err(_) => Err(CommitError::NoAnswer),
            }
        }
    };
    record(begun, shards, result.as_ref().map_err(CommitError::metric_label).err());
    let requests = batches.into_iter().zip(replies).map(|(batch, reply)| CommitRequest { batch, reply });
    let mut split = Vec::new();
    match result {
        Ok(unmoved) => requests.for_each(|request| {
            let was_moved = !unmoved.contains(&request.batch.origin.shard);
            request.answer(if was_moved { Ok(()) } else { Err(ApplyError::WatermarkMoved.into()) });
        }),
        Err(CommitError::Apply(ApplyError::Database(
            error @ (DatabaseFailure::Data(_)
            | DatabaseFailure::Unexplained(_)
            | DatabaseFailure::TimedOut(_)),
        ))) => {
            tracing::warn!(%error, shards, "a transaction of several shards failed: writing each shard alone");
            split.extend(requests);
        }
        Err(CommitError::NoAnswer) => requests.for_each(|request| request.answer(Err(CommitError::NoAnswer))),
        Err(CommitError::NoSession(error)) => requests.for_each(|request| {
            request.answer(Err(CommitError::NoSession(anyhow::anyhow!("{error:#}"))));
        }),
        Err(error) => {
            let reason = error.to_string();
            requests.for_each(|request| request.answer(Err(CommitError::Lost(reason.clone()))));
        }
    }
    Finished { was_regular: true, split }
}

/// Records a transaction. `failure` is the label of its error.
fn record(begun: Instant, shards: usize, failure: Option<&'static str>) {
    metrics::histogram!(PERSISTER_COMMIT_SECONDS, "outcome" => failure.unwrap_or("ok"))
        .record(begun.elapsed());
    metrics::histogram!(PERSISTER_GROUP_SHARDS).record(u32::try_from(shards).unwrap_or(u32::MAX));
}
