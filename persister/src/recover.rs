//! Implements `roomcast recover`: what only a person can decide where the log and Postgres disagree.
//!
//! What must hold: a shard is changed only while its lock is held, and as it is found then; Postgres
//! first, so that wherever this stops it can be run again, with no id given twice. What the log is
//! known to have lost is given up only when told so, and noted.

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

/// What was found of a shard, and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryFinding {
    /// The shard.
    pub shard: Shard,
    /// One line for a person.
    pub text: String,
    /// Something is left to do: the shard can't go on yet.
    pub needs_action: bool,
}

/// What a shard needs.
enum RecoveryAction {
    /// Nothing, for the reason said.
    Nothing(String),
    /// Its log is gone: a new one.
    RecreateLog { lost_range: Option<(u64, u64)> },
    /// Its log has lost events that Postgres has not got: to go on without them.
    SkipLostRange { lost_range: (u64, u64), comparison: Box<LogComparison> },
}

/// Makes a log that is gone anew, and goes on without lost events where `accept_loss` says so. Everything
/// else is left as it is, and said.
///
/// # Errors
/// When broker or database do not answer, or a change could not be made.
pub async fn recover(config: &Config, accept_loss: bool) -> anyhow::Result<Vec<RecoveryFinding>> {
    let shards = config.log.shard_count()?;
    let database = DatabaseConnector::new(&config.database)?;
    let mut session = database.connect().await.context("DATABASE_URL")?;
    let connection = nats::connect_once(&config.nats, BrokerUser::Persister).await.context("NATS_URL")?;
    let jetstream = connection.jetstream();
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM watermark")
        .fetch_one(&mut session)
        .await
        .context("DATABASE_URL: not a database of Roomcast")?;
    anyhow::ensure!(
        rows == i64::from(shards.get()) + 1,
        "ROOMCAST_SHARDS is {}, but the database has {} shards",
        shards.get(),
        rows - 1
    );
    let mut findings = Vec::new();
    for shard in shards.all() {
        let recovered = recover_shard(&mut session, &jetstream, &config.log, shard, accept_loss).await;
        let (text, left) = recovered.with_context(|| format!("shard {shard}"))?;
        findings.push(RecoveryFinding { shard, text, needs_action: left });
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
    let (found, would) = describe(&action, &watermark);
    if action.has_loss() && !accept_loss {
        return Ok((format!("{found}: with --accept-loss, {would}"), true));
    }
    if !leadership::acquire_lock(session, shard).await? {
        return Ok((format!("{found}, but a persister leads the shard: stop it, and run this again"), true));
    }
    // As it is now that nobody else changes it.
    let watermark = watermark::read(session, shard).await?;
    let action = decide_action(jetstream, shard, &watermark).await?;
    let (found, would) = describe(&action, &watermark);
    let done = perform_action(session, jetstream, args, shard, &watermark, action).await;
    leadership::release_lock(session, shard).await?;
    done?;
    Ok((format!("{found}: done: {would}"), false))
}

async fn decide_action(
    jetstream: &Context,
    shard: Shard,
    watermark: &Watermark,
) -> anyhow::Result<RecoveryAction> {
    let Some(comparison) = LogComparison::read(jetstream, shard, watermark.last_applied()).await? else {
        return Ok(if watermark.has_no_events() {
            RecoveryAction::Nothing("no log yet, and nothing in Postgres: the persister makes it".to_owned())
        } else {
            let lost = (watermark.highest_seen > watermark.seq)
                .then_some((watermark.seq + 1, watermark.highest_seen));
            RecoveryAction::RecreateLog { lost_range: lost }
        });
    };
    Ok(match comparison.verdict {
        LogVerdict::Hole { from, to } => {
            RecoveryAction::SkipLostRange { lost_range: (from, to), comparison: Box::new(comparison) }
        }
        LogVerdict::Continues => {
            RecoveryAction::Nothing(format!("well: the log goes on after {}", watermark.seq))
        }
        LogVerdict::Shorter | LogVerdict::Rewritten => RecoveryAction::Nothing(format!(
            "the log ends at {}, Postgres at {}: the persister repairs that by itself",
            comparison.state.last, watermark.seq
        )),
    })
}

impl RecoveryAction {
    const fn lost_range(&self) -> Option<(u64, u64)> {
        match self {
            Self::Nothing(_) => None,
            Self::RecreateLog { lost_range: lost } => *lost,
            Self::SkipLostRange { lost_range: lost, .. } => Some(*lost),
        }
    }

    const fn has_loss(&self) -> bool {
        self.lost_range().is_some()
    }
}

/// What was found, and what is done about it.
fn describe(action: &RecoveryAction, watermark: &Watermark) -> (String, String) {
    let next = action.lost_range().map_or(watermark.seq, |(_, to)| to) + 1;
    match action {
        RecoveryAction::Nothing(text) => (text.clone(), "nothing".to_owned()),
        RecoveryAction::RecreateLog { lost_range: None } => (
            format!("the log is gone, Postgres has its events up to {}", watermark.seq),
            format!("a new log, from {next} on, in a new epoch"),
        ),
        RecoveryAction::RecreateLog { lost_range: Some((from, to)) } => (
            format!("the log is gone, and with it {from} to {to}, which Postgres has not got"),
            format!("a new log, from {next} on, in a new epoch, and a note of the loss in lost_range"),
        ),
        RecoveryAction::SkipLostRange { lost_range: (from, to), .. } => (
            format!("the log has lost {from} to {to}, which Postgres has not got"),
            format!("on from {next}, in a new epoch, and a note of the loss in lost_range"),
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
    let lost = action.lost_range();
    match action {
        RecoveryAction::Nothing(_) => Ok(()),
        RecoveryAction::RecreateLog { .. } => {
            let epoch = watermark.epoch + 1;
            watermark::skip_lost_range(session, shard, watermark, epoch, lost).await?;
            let next = lost.map_or(watermark.seq, |(_, to)| to) + 1;
            repair::recreate_stream(jetstream, args, shard, epoch, next).await
        }
        RecoveryAction::SkipLostRange { comparison, .. } => {
            let epoch = watermark.epoch.max(comparison.state.epoch) + 1;
            watermark::skip_lost_range(session, shard, watermark, epoch, lost).await?;
            repair::write_epoch(jetstream, &comparison.info.config, epoch, None, AppendPolicy::Accepted).await
        }
    }
}
