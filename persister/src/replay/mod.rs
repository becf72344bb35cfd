//! Implements `roomcast replay-rejected`: applies events that an older version rejected and this one understands.
//!
//! What must hold: an event is applied at most once, and undoes no newer event that was applied before it. So each one
//! is applied in the transaction that marks it as resolved, in the order of its shard. The transaction first locks the
//! shard's watermark, as the persister's own batches do, so that neither a batch nor another replay runs between the
//! decision and the write. `decision` decides which event may still be applied.

mod decision;

use anyhow::Context as _;
use log::StoredEvent;
use protocol::{
    event::{Event, EventName},
    id::{Shard, ShardCount},
    subject,
};
use sqlx::{Connection as _, PgConnection};

use crate::{
    config::Config,
    database::{DatabaseConnector, DatabaseFailure, to_i64},
    shard::apply::{
        self, ShardRows,
        closed_rooms::RecentlyClosedRooms,
        plan::WritePlan,
        rejected_event::{self, RejectionCause},
    },
};
use decision::ReplayDecision;

/// What happened to a rejected event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RejectedEventOutcome {
    /// It was applied.
    Applied,
    /// Nothing of it is left to apply, for this reason: it is resolved.
    NothingToApply(String),
    /// This version can't apply it, for this reason: it stays unresolved.
    Kept(String),
}

/// A rejected event that was examined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedEvent {
    /// Its shard.
    pub shard: Shard,
    /// Its sequence in the shard.
    pub seq: u64,
    /// Its subject in the log.
    pub subject: String,
    /// What happened to it; in a dry run, what would happen.
    pub outcome: RejectedEventOutcome,
}

/// A row of `rejected_event` that is not resolved.
#[derive(sqlx::FromRow)]
struct RejectedEventRow {
    seq: i64,
    subject: String,
    payload: Vec<u8>,
    headers: String,
    cause: Option<String>,
    reason: String,
}

/// Applies what can be applied of `rejected_event`, and passes each event to `report` once it is done. Persisters and
/// other replays may run meanwhile. A dry run changes nothing.
///
/// # Errors
/// When the database does not answer, or its tables are of another version. Events that were reported before are done.
pub async fn replay_rejected(
    config: &Config,
    dry_run: bool,
    report: &mut (dyn FnMut(ReplayedEvent) + Send),
) -> anyhow::Result<()> {
    let database = DatabaseConnector::new(&config.database)?;
    let mut session = database.connect().await.context("DATABASE_URL")?;
    crate::schema::require_current(&mut session).await?;
    let watermark_rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM watermark").fetch_one(&mut session).await?;
    let shards = ShardCount::new(u16::try_from(watermark_rows - 1)?).context("the database has no shards")?;
    for shard in shards.all() {
        let (mut after_seq, mut applied) = (-1, Vec::new());
        while let Some(replayed) =
            replay_next(&mut session, shard, after_seq, dry_run.then_some(&applied[..]))
                .await
                .with_context(|| format!("shard {shard}"))?
        {
            after_seq = to_i64(replayed.seq);
            if replayed.outcome == RejectedEventOutcome::Applied {
                applied.push(after_seq);
            }
            report(replayed);
        }
    }
    session.close().await?;
    Ok(())
}

/// Replays the next event after `after_seq` that is not resolved. In a dry run, `applied_in_dry_run` has the events
/// that would have been applied by now; otherwise it is `None`.
async fn replay_next(
    session: &mut PgConnection,
    shard: Shard,
    after_seq: i64,
    applied_in_dry_run: Option<&[i64]>,
) -> anyhow::Result<Option<ReplayedEvent>> {
    let mut transaction = session.begin().await?;
    sqlx::query("SELECT FROM watermark WHERE shard = $1 FOR UPDATE")
        .bind(shard.number())
        .execute(&mut *transaction)
        .await
        .context("the persister did not unlock the shard in time: run this again")?;
    let row: Option<RejectedEventRow> = sqlx::query_as(
        "SELECT seq, subject, payload, headers, cause, reason FROM rejected_event
         WHERE shard = $1 AND seq > $2 AND resolved_at IS NULL ORDER BY seq LIMIT 1",
    )
    .bind(shard.number())
    .bind(after_seq)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (seq, subject) = (row.seq, row.subject.clone());
    let outcome = replay_row(&mut transaction, shard, row, applied_in_dry_run.unwrap_or_default()).await?;
    if applied_in_dry_run.is_some() {
        transaction.rollback().await?;
    } else {
        let resolution = match &outcome {
            RejectedEventOutcome::Applied => Some("applied"),
            RejectedEventOutcome::NothingToApply(reason) => Some(reason.as_str()),
            RejectedEventOutcome::Kept(_) => None,
        };
        if let Some(resolution) = resolution {
            mark_resolved(&mut transaction, shard, seq, resolution).await?;
        }
        transaction.commit().await?;
    }
    Ok(Some(ReplayedEvent { shard, seq: u64::try_from(seq)?, subject, outcome }))
}

async fn mark_resolved(
    session: &mut PgConnection,
    shard: Shard,
    seq: i64,
    resolution: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE rejected_event SET resolved_at = now(), resolution = $3 WHERE shard = $1 AND seq = $2",
    )
    .bind(shard.number())
    .bind(seq)
    .bind(resolution)
    .execute(session)
    .await?;
    Ok(())
}

/// Applies an event if that is still right, in the open transaction.
async fn replay_row(
    session: &mut PgConnection,
    shard: Shard,
    row: RejectedEventRow,
    applied_in_dry_run: &[i64],
) -> anyhow::Result<RejectedEventOutcome> {
    // Older versions stored the cause in the reason alone.
    let is_id_taken = row.cause.as_deref() == Some(RejectionCause::IdTaken.as_str())
        || (row.cause.is_none() && row.reason.starts_with("appended after the log lost events"));
    if is_id_taken {
        return Ok(RejectedEventOutcome::Kept("another event has its id".to_owned()));
    }
    let is_partly_applied = row.cause.as_deref() == Some(RejectionCause::UnknownFields.as_str());
    let event = rejected_event::to_stored_event(
        shard,
        u64::try_from(row.seq)?,
        row.subject,
        &row.headers,
        row.payload,
    );
    let plan = WritePlan::build(std::slice::from_ref(&event), &mut RecentlyClosedRooms::default());
    if let Some(rejected) = plan.rejected.first() {
        return Ok(RejectedEventOutcome::Kept(rejected.reason.clone()));
    }
    if is_partly_applied && !plan.partly_applied.is_empty() {
        return Ok(RejectedEventOutcome::Kept("it has fields that this version does not know".to_owned()));
    }
    let earlier = match row.cause {
        _ if is_partly_applied => decision::EarlierHandling::PartlyApplied,
        Some(_) => decision::EarlierHandling::Rejected,
        None => decision::EarlierHandling::RejectedByOlderVersion,
    };
    let decoded = decode(&event)?;
    match decision::decide(session, shard, (event.seq, &decoded), &plan, earlier, applied_in_dry_run).await? {
        ReplayDecision::NothingToApply(reason) => Ok(RejectedEventOutcome::NothingToApply(reason)),
        ReplayDecision::Keep(reason) => Ok(RejectedEventOutcome::Kept(reason)),
        ReplayDecision::Apply => apply_event(session, shard, &event, &plan).await,
        ReplayDecision::FillMissing => {
            decision::fill_missing(session, shard, (event.seq, &decoded)).await?;
            Ok(RejectedEventOutcome::Applied)
        }
    }
}

/// Decodes an event whose plan rejects nothing.
fn decode(event: &StoredEvent) -> anyhow::Result<Event> {
    let parsed = subject::parse(&event.subject).ok().context("the plan accepted an unknown subject")?;
    let name = EventName::parse(parsed.event).context("the plan accepted an unknown event name")?;
    Ok(Event::decode(name, &event.payload)?)
}

/// Writes the event's rows as a batch would. If Postgres refuses them, none is written.
async fn apply_event(
    session: &mut PgConnection,
    shard: Shard,
    event: &StoredEvent,
    plan: &WritePlan,
) -> anyhow::Result<RejectedEventOutcome> {
    let rows = ShardRows { shard, after_seq: event.seq - 1, plan };
    let mut savepoint = session.begin().await?;
    if let Err(error) = apply::write_rows(&mut savepoint, &[rows]).await {
        savepoint.rollback().await?;
        return match DatabaseFailure::from(error) {
            error @ (DatabaseFailure::Data(_)
            | DatabaseFailure::Unexplained(_)
            | DatabaseFailure::TimedOut(_)) => Ok(RejectedEventOutcome::Kept(error.to_string())),
            error @ DatabaseFailure::Lost(_) => Err(error.into()),
        };
    }
    savepoint.commit().await?;
    let Some(partly_applied) = plan.partly_applied.first() else { return Ok(RejectedEventOutcome::Applied) };
    // It stays unresolved, as an event that was applied except for these fields.
    sqlx::query("UPDATE rejected_event SET cause = $3, reason = $4 WHERE shard = $1 AND seq = $2")
        .bind(shard.number())
        .bind(partly_applied.seq)
        .bind(partly_applied.cause.as_str())
        .bind(&partly_applied.reason)
        .execute(session)
        .await?;
    Ok(RejectedEventOutcome::Kept(
        "it is applied now, except for fields that this version does not know".to_owned(),
    ))
}
