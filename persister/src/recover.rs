//! Implements `roomcast recover`: repairs shards whose log and Postgres disagree, where an operator must decide.
//!
//! What must hold: a shard is changed only while its lock is held, and after its state was read again under the lock.
//! Postgres is changed before the stream, so that an interrupted run can be repeated and no id is assigned twice. Lost
//! events are skipped only with `--accept-loss`, and their range is recorded in `lost_range`.

use anyhow::Context as _;
use async_nats::jetstream::Context;
use protocol::id::Shard;
use service::nats::{self, BrokerUser};
use sqlx::{Connection as _, PgConnection};

use crate::{
    config::{Config, StreamArgs},
    database::DatabaseConnector,
    leadership,
    shard::watermark::{self, Watermark},
    streams::{
        repair,
        verify::{AppendPolicy, LogComparison, LogVerdict},
    },
};

/// The state of a shard, and what `recover` did about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryFinding {
    /// The shard.
    pub shard: Shard,
    /// One line for the operator.
    pub text: String,
    /// Whether the shard still can't go on.
    pub needs_action: bool,
}

/// What to do about a shard.
enum RecoveryAction {
    /// Nothing; the text says why.
    Nothing(String),
    /// Create a new stream: the shard's stream is gone.
    RecreateLog { lost_range: Option<(u64, u64)> },
    /// Skip events that the log has lost and Postgres lacks.
    SkipLostRange { lost_range: (u64, u64), comparison: Box<LogComparison> },
}

/// Recreates streams that are gone. Skips events that the log has lost and Postgres lacks, if `accept_loss` is set.
/// Leaves all other shards as they are, and reports every shard.
///
/// # Errors
/// When the broker or the database does not answer, or a change fails.
pub async fn recover(config: &Config, accept_loss: bool) -> anyhow::Result<Vec<RecoveryFinding>> {
    let shards = config.log.shard_count()?;
    let database = DatabaseConnector::new(&config.database)?;
    let mut session = database.connect().await.context("DATABASE_URL")?;
    let connection = nats::connect_once(&config.nats, BrokerUser::Persister).await.context("NATS_URL")?;
    let jetstream = connection.jetstream();
    let watermark_rows: i64 = sqlx::query_scalar("SELECT count(*) FROM watermark")
        .fetch_one(&mut session)
        .await
        .context("DATABASE_URL: not a database of Roomcast")?;
    anyhow::ensure!(
        watermark_rows == i64::from(shards.get()) + 1,
        "ROOMCAST_SHARDS is {}, but the database has {} shards",
        shards.get(),
        watermark_rows - 1
    );
    let mut findings = Vec::new();
    for shard in shards.all() {
        let recovered = recover_shard(&mut session, &jetstream, &config.log, shard, accept_loss).await;
        let (text, needs_action) = recovered.with_context(|| format!("shard {shard}"))?;
        findings.push(RecoveryFinding { shard, text, needs_action });
    }
    session.close().await?;
    Ok(findings)
}

async fn recover_shard(
    session: &mut PgConnection,
    jetstream: &Context,
    args: &StreamArgs,
    shard: Shard,
    accept_loss: bool,
) -> anyhow::Result<(String, bool)> {
    let watermark = watermark::read(session, shard).await?;
    let action = decide_action(jetstream, shard, &watermark).await?;
    if let RecoveryAction::Nothing(text) = action {
        return Ok((text, false));
    }
    let (finding, remedy) = describe(&action, &watermark);
    if action.has_loss() && !accept_loss {
        return Ok((
            format!("{finding}. Run this command with --accept-loss to continue without them: {remedy}"),
            true,
        ));
    }
    if !leadership::acquire_lock(session, shard).await? {
        return Ok((
            format!("{finding}, but a persister leads the shard: stop it, and run this command again"),
            true,
        ));
    }
    // Read again under the lock: no persister changes the shard now.
    let watermark = watermark::read(session, shard).await?;
    let action = decide_action(jetstream, shard, &watermark).await?;
    let (finding, remedy) = describe(&action, &watermark);
    let result = perform_action(session, jetstream, args, shard, &watermark, action).await;
    leadership::release_lock(session, shard).await?;
    result?;
    Ok((format!("{finding}. Done: {remedy}"), false))
}

async fn decide_action(
    jetstream: &Context,
    shard: Shard,
    watermark: &Watermark,
) -> anyhow::Result<RecoveryAction> {
    let Some(comparison) = LogComparison::read(jetstream, shard, watermark.last_applied()).await? else {
        return Ok(if watermark.has_no_events() {
            RecoveryAction::Nothing(
                "nothing to do: no log yet, and no events in Postgres. The persister will create the log"
                    .to_owned(),
            )
        } else {
            let lost_range = (watermark.highest_seen > watermark.seq)
                .then_some((watermark.seq + 1, watermark.highest_seen));
            RecoveryAction::RecreateLog { lost_range }
        });
    };
    Ok(match comparison.verdict {
        LogVerdict::Hole { from, to } => {
            RecoveryAction::SkipLostRange { lost_range: (from, to), comparison: Box::new(comparison) }
        }
        LogVerdict::Continues => {
            RecoveryAction::Nothing(format!("nothing to do: the log continues after event {}", watermark.seq))
        }
        LogVerdict::Shorter | LogVerdict::Rewritten => RecoveryAction::Nothing(format!(
            "the log ends at {}, Postgres at {}: the persister repairs this by itself",
            comparison.state.last, watermark.seq
        )),
    })
}

impl RecoveryAction {
    const fn lost_range(&self) -> Option<(u64, u64)> {
        match self {
            Self::Nothing(_) => None,
            Self::RecreateLog { lost_range } => *lost_range,
            Self::SkipLostRange { lost_range, .. } => Some(*lost_range),
        }
    }

    const fn has_loss(&self) -> bool {
        self.lost_range().is_some()
    }
}

/// Returns what is wrong with the shard, and the remedy.
fn describe(action: &RecoveryAction, watermark: &Watermark) -> (String, String) {
    let next_seq = action.lost_range().map_or(watermark.seq, |(_, to)| to) + 1;
    match action {
        RecoveryAction::Nothing(text) => (text.clone(), "nothing".to_owned()),
        RecoveryAction::RecreateLog { lost_range: None } => (
            format!("the log is gone. Postgres has its events up to {}", watermark.seq),
            format!("a new log that starts at event {next_seq}, in a new epoch"),
        ),
        RecoveryAction::RecreateLog { lost_range: Some((from, to)) } => (
            format!("the log is gone, and with it events {from} to {to}, which Postgres lacks"),
            format!(
                "a new log that starts at event {next_seq}, in a new epoch; the loss is recorded in lost_range"
            ),
        ),
        RecoveryAction::SkipLostRange { lost_range: (from, to), .. } => (
            format!("the log has lost events {from} to {to}, which Postgres lacks"),
            format!(
                "the shard continues at event {next_seq}, in a new epoch; the loss is recorded in lost_range"
            ),
        ),
    }
}

async fn perform_action(
    session: &mut PgConnection,
    jetstream: &Context,
    args: &StreamArgs,
    shard: Shard,
    watermark: &Watermark,
    action: RecoveryAction,
) -> anyhow::Result<()> {
    let lost_range = action.lost_range();
    match action {
        RecoveryAction::Nothing(_) => Ok(()),
        RecoveryAction::RecreateLog { .. } => {
            let epoch = watermark.epoch + 1;
            watermark::skip_lost_range(session, shard, watermark, epoch, lost_range).await?;
            let first_seq = lost_range.map_or(watermark.seq, |(_, to)| to) + 1;
            repair::recreate_stream(jetstream, args, shard, epoch, first_seq).await
        }
        RecoveryAction::SkipLostRange { comparison, .. } => {
            let epoch = watermark.epoch.max(comparison.state.epoch) + 1;
            watermark::skip_lost_range(session, shard, watermark, epoch, lost_range).await?;
            repair::write_epoch(jetstream, &comparison.info.config, epoch, None, AppendPolicy::Accepted).await
        }
    }
}
