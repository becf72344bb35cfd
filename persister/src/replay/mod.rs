//! Implements `roomcast replay-rejected`: applies what an older version has rejected and this one understands.
//!
//! What must hold: an event is applied at most once, and never against newer events that were applied before
//! it. So each is applied in one transaction with the mark that it is settled, in the order of its shard;
//! the transaction first locks the shard's watermark, as the persister's own batches do, so that neither a
//! batch nor another replay comes between the look at what is stored and the write. `guard` says which
//! event may still be applied.

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
        self,
        closed_rooms::RecentlyClosedRooms,
        plan::WritePlan,
        rejected_event::{self, RejectionCause},
    },
};
use decision::ReplayDecision;

/// What became of a rejected event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RejectedEventOutcome {
    /// It was applied.
    Applied,
    /// Nothing of it is left to apply, for this reason: it is settled.
    NothingToApply(String),
    /// It can't be applied by this version, for this reason: it stays as it is.
    Kept(String),
}

/// A rejected event that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedEvent {
    /// Its shard.
    pub shard: Shard,
    /// Its place in the shard.
    pub seq: u64,
    /// Its subject in the log.
    pub subject: String,
    /// What became of it; in a dry run, what would.
    pub outcome: RejectedEventOutcome,
}

/// A row of `rejected_event` that is not settled.
#[derive(sqlx::FromRow)]
struct RejectedEventRow {
    seq: i64,
    subject: String,
    payload: Vec<u8>,
    headers: String,
    cause: Option<String>,
    reason: String,
}

/// Applies what can be applied of `rejected_event`, and tells of each event as it is done. Persisters may
/// run meanwhile, and so may another replay. A dry run changes nothing.
///
/// # Errors
/// When the database does not answer, or its tables are of another version. What was told before is done.
pub async fn replay_rejected(
    config: &Config,
    dry_run: bool,
    report: &mut (dyn FnMut(ReplayedEvent) + Send),
) -> anyhow::Result<()> {
    let database = DatabaseConnector::new(&config.database)?;
    let mut session = database.connect().await.context("DATABASE_URL")?;
    crate::schema::require_current(&mut session).await?;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM watermark").fetch_one(&mut session).await?;
    let shards = ShardCount::new(u16::try_from(rows - 1)?).context("the database has no shards")?;
    for shard in shards.all() {
        let (mut after, mut applied) = (-1, Vec::new());
        while let Some(replayed) = replay_next(&mut session, shard, after, dry_run.then_some(&applied[..]))
            .await
            .with_context(|| format!("shard {shard}"))?
        {
            after = to_i64(replayed.seq);
            if replayed.outcome == RejectedEventOutcome::Applied {
                applied.push(after);
            }
            report(replayed);
        }
    }
    session.close().await?;
    Ok(())
}

/// Looks at the next event that is not settled. `rehearsed`, in a dry run, has the events that would have
/// been applied by then.
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
        .context("the persister did not let go of the shard in time: run this again")?;
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
    let fate = replay_row(&mut transaction, shard, row, applied_in_dry_run.unwrap_or_default()).await?;
    if applied_in_dry_run.is_some() {
        transaction.rollback().await?;
    } else {
        let resolution = match &fate {
            RejectedEventOutcome::Applied => Some("applied"),
            RejectedEventOutcome::NothingToApply(reason) => Some(reason.as_str()),
            RejectedEventOutcome::Kept(_) => None,
        };
        if let Some(resolution) = resolution {
            mark_resolved(&mut transaction, shard, seq, resolution).await?;
        }
        transaction.commit().await?;
    }
    Ok(Some(ReplayedEvent { shard, seq: u64::try_from(seq)?, subject, outcome: fate }))
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

/// Applies an event where that is still right, in the transaction that is open.
async fn replay_row(
    session: &mut PgConnection,
    shard: Shard,
    row: RejectedEventRow,
    applied_in_dry_run: &[i64],
) -> anyhow::Result<RejectedEventOutcome> {
    // Older versions say it in the reason alone.
    let is_taken = row.cause.as_deref() == Some(RejectionCause::IdTaken.as_str())
        || (row.cause.is_none() && row.reason.starts_with("appended after the log lost events"));
    if is_taken {
        return Ok(RejectedEventOutcome::Kept("another event has its id".to_owned()));
    }
    let is_noted = row.cause.as_deref() == Some(RejectionCause::UnknownFields.as_str());
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
    if is_noted && !plan.partly_applied.is_empty() {
        return Ok(RejectedEventOutcome::Kept("it has fields that this version does not know".to_owned()));
    }
    let past = match row.cause {
        _ if is_noted => decision::EarlierHandling::PartlyApplied,
        Some(_) => decision::EarlierHandling::Rejected,
        None => decision::EarlierHandling::RejectedByOlderVersion,
    };
    let decoded = decode(&event)?;
    match decision::decide(session, shard, (event.seq, &decoded), &plan, past, applied_in_dry_run).await? {
        ReplayDecision::NothingToApply(reason) => Ok(RejectedEventOutcome::NothingToApply(reason)),
        ReplayDecision::Keep(reason) => Ok(RejectedEventOutcome::Kept(reason)),
        ReplayDecision::Apply => apply_event(session, shard, &event, &plan).await,
        ReplayDecision::FillMissing => {
            decision::fill_missing(session, shard, (event.seq, &decoded)).await?;
            Ok(RejectedEventOutcome::Applied)
        }
    }
}

/// The event of a plan that rejects nothing.
fn decode(event: &StoredEvent) -> anyhow::Result<Event> {
    let parsed = subject::parse(&event.subject).ok().context("the subject was read before")?;
    let name = EventName::parse(parsed.event).context("the name was read before")?;
    Ok(Event::decode(name, &event.payload)?)
}

/// Writes the event's rows as a batch would; what Postgres refuses of it leaves no trace.
async fn apply_event(
    session: &mut PgConnection,
    shard: Shard,
    event: &StoredEvent,
    plan: &WritePlan,
) -> anyhow::Result<RejectedEventOutcome> {
    let mut inner = session.begin().await?;
    if let Err(error) = apply::write_rows(&mut inner, shard, event.seq - 1, plan).await {
        inner.rollback().await?;
        return match DatabaseFailure::from(error) {
            error @ (DatabaseFailure::Data(_)
            | DatabaseFailure::Unexplained(_)
            | DatabaseFailure::TimedOut(_)) => Ok(RejectedEventOutcome::Kept(error.to_string())),
            error @ DatabaseFailure::Lost(_) => Err(error.into()),
        };
    }
    inner.commit().await?;
    let Some(noted) = plan.partly_applied.first() else { return Ok(RejectedEventOutcome::Applied) };
    // It goes on as one that was applied but for these fields.
    sqlx::query("UPDATE rejected_event SET cause = $3, reason = $4 WHERE shard = $1 AND seq = $2")
        .bind(shard.number())
        .bind(noted.seq)
        .bind(noted.cause.as_str())
        .bind(&noted.reason)
        .execute(session)
        .await?;
    Ok(RejectedEventOutcome::Kept(
        "it is applied now, but for fields that this version does not know".to_owned(),
    ))
}
