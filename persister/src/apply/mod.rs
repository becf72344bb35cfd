//! Writing a batch: the watermark and its rows in one transaction.
//!
//! What must hold: applying is total. What Postgres refuses for its data is found by halving the
//! batch, and noted in `rejected_event` in the same transaction as its watermark. An event is never rejected
//! because the database is slow: a time-out counts only where Postgres writes other things meanwhile.

mod due;
mod members;
pub(crate) mod message;
mod participant;
mod person;
pub(crate) mod rejected;
pub(crate) mod room;
mod team;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol::{event::Event, id::Shard};
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use crate::{
    batch::Plan,
    closed::ClosedRooms,
    feed::Batch,
    retry::Retries,
    watermark::{self, Step},
};

/// How long a small write may take after an event that timed out, for the event to be what is slow.
const SMALL_WRITE: Duration = Duration::from_secs(1);

/// Why a batch is not known to be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// Somebody else moved the watermark, or began a new epoch: nothing was written.
    #[error("another persister has moved the watermark, or the log has a new epoch")]
    Moved,
    /// Postgres refuses the data, now and always: nothing was written.
    #[error("refused by Postgres: {0}")]
    Data(sqlx::Error),
    /// Postgres fails for a reason that is neither known to lie in the data nor to pass: nothing was written.
    #[error("Postgres failed, and does not say why: {0}")]
    Unexplained(sqlx::Error),
    /// A statement took too long: nothing was written.
    #[error("the batch took too long: {0}")]
    TimedOut(sqlx::Error),
    /// It may be written, or not: the watermark tells.
    #[error("the database session was lost: {0}")]
    Lost(sqlx::Error),
}

impl From<sqlx::Error> for ApplyError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code());
        match cause(code.as_deref()) {
            _ if matches!(error, sqlx::Error::Encode(_)) => Self::Data(error),
            Cause::Data => Self::Data(error),
            Cause::Unexplained => Self::Unexplained(error),
            Cause::Time => Self::TimedOut(error),
            Cause::Database => Self::Lost(error),
        }
    }
}

impl ApplyError {
    /// The outcome as metrics name it.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Data(_) => "data",
            Self::Unexplained(_) => "unexplained",
            Self::TimedOut(_) => "timed_out",
            Self::Lost(_) => "lost",
        }
    }
}

/// Where a failure comes from, as far as its SQLSTATE tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The data, now and always.
    Data,
    /// A statement was cancelled because it took too long.
    Time,
    /// The connection, or the state of the database: it passes, or somebody repairs it.
    Database,
    /// Nothing that is known.
    Unexplained,
}

/// Sorts a SQLSTATE by its class, the first two characters. Where a restart, an operator, free space or the end
/// of another transaction can help, the cause is the database, and no event is ever rejected for it. Class 42
/// is such a one, since all statements are fixed: what is missing is a table, a column or a right.
fn cause(code: Option<&str>) -> Cause {
    let Some(code) = code else { return Cause::Database };
    match code.get(..2) {
        // Cardinality violation, data exception, integrity constraint violation, check option violation,
        // program limit exceeded.
        Some("21" | "22" | "23" | "44" | "54") => Cause::Data,
        // `query_canceled`.
        _ if code == "57014" => Cause::Time,
        // `data_corrupted` and `index_corrupted`, in the class of internal errors.
        _ if code == "XX001" || code == "XX002" => Cause::Database,
        Some(
            "08" | "0A" | "25" | "26" | "28" | "3D" | "3F" | "40" | "42" | "53" | "55" | "57" | "58" | "F0"
            | "HV",
        ) => Cause::Database,
        _ => Cause::Unexplained,
    }
}

/// Writes a plan and moves the watermark over it.
pub(crate) async fn transact(
    session: &mut PgConnection,
    shard: Shard,
    step: Step,
    plan: &Plan,
) -> Result<(), ApplyError> {
    let mut transaction = session.begin().await?;
    let held = &mut *transaction;
    if !watermark::advance(held, shard, step).await? {
        transaction.rollback().await?;
        return Err(ApplyError::Moved);
    }
    let written = rows(held, shard, step.from, plan).await;
    if let Err(error) = written {
        transaction.rollback().await.map_err(ApplyError::Lost)?;
        return Err(error.into());
    }
    // Where Postgres itself answers with an error, nothing was written: otherwise it is not known.
    transaction.commit().await.map_err(ApplyError::from)
}

/// Writes a plan's rows, in the transaction that is open.
pub(crate) async fn rows(
    session: &mut PgConnection,
    shard: Shard,
    after: u64,
    plan: &Plan,
) -> sqlx::Result<()> {
    message::insert(session, shard, &plan.messages).await?;
    participant::upsert(session, shard, &plan.participants).await?;
    participant::upsert_online(session, shard, &plan.online).await?;
    for new in &plan.rooms {
        room::make(session, shard, new).await?;
    }
    message::edit(session, shard, &plan.revisions.edits()).await?;
    message::delete(session, shard, &plan.revisions.deletions()).await?;
    message::mark(session, shard, &plan.marks).await?;
    for (seq, event) in &plan.changes {
        change(session, shard, *seq, event).await?;
    }
    room::touch(session, shard, &plan.touched).await?;
    members::write(session, shard, members::OF_ROOMS, &plan.members).await?;
    members::write(session, shard, members::OF_TEAMS, &plan.team_members).await?;
    due::insert(session, shard, after, plan).await?;
    rejected::insert(session, shard, &plan.rejected).await?;
    rejected::keep_dependents(session, shard, &plan.dependents).await?;
    rejected::note(session, shard, &plan.noted).await
}

async fn change(session: &mut PgConnection, shard: Shard, seq: u64, event: &Event) -> sqlx::Result<()> {
    match event {
        Event::RoomUpdate(update) => room::update(session, shard, seq, update).await,
        Event::TeamMade(team) => team::make(session, shard, seq, team).await,
        Event::Invitation(invitation) => person::invite(session, shard, seq, invitation).await,
        Event::InvitationAnswer(answer) => person::answer(session, shard, answer).await,
        Event::Profile(profile) => person::merge(session, shard, profile).await,
        Event::RoomSelect(select) => person::select(session, shard, select).await,
        Event::Camera(camera) => person::camera(session, shard, camera).await,
        // Written in bulk.
        Event::ChatMessage(_)
        | Event::MessageEdit(_)
        | Event::MessageDelete(_)
        | Event::MessageRead(_)
        | Event::MemberAdd(_)
        | Event::MemberRemove(_)
        | Event::TeamMemberAdd(_)
        | Event::TeamMemberRemove(_)
        | Event::Chatroom(_)
        | Event::RoomMade(_)
        | Event::ParticipantJoin(_)
        | Event::ParticipantLeave(_)
        | Event::Online(_)
        | Event::Offline(_) => Ok(()),
    }
}

/// What became of a run of events.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Up to where the watermark has moved.
    pub(crate) watermark: u64,
    /// How many events could not be applied.
    pub(crate) rejected: u64,
    /// How many stood behind the closing of their room.
    pub(crate) after_closing: u64,
}

/// Writes a run of contiguous events, read in `epoch`, after the watermark that `outcome` holds. What
/// Postgres refuses for its data, or without a known reason, is halved until the single event is found; in
/// the second case that event is rejected only after it has failed alone several times. So is a single event
/// that times out while Postgres writes other things; a longer run that times out is the caller's to halve.
/// `outcome` says how far it came, also after an error.
pub(crate) async fn run(
    session: &mut PgConnection,
    shard: Shard,
    epoch: u64,
    batch: &Batch,
    retries: &Mutex<Retries>,
    closed: &mut ClosedRooms,
    outcome: &mut Outcome,
) -> Result<(), ApplyError> {
    let seen = batch.last();
    let mut parts = vec![batch.events.as_slice()];
    while let Some(part) = parts.pop() {
        let Some(last) = part.last() else { continue };
        let stored_at = watermark::nanoseconds(last.time);
        let step = Step { epoch, from: outcome.watermark, to: last.seq, stored_at, seen };
        let mut plan = Plan::of(part, closed);
        let mut written = transact(session, shard, step, &plan).await;
        let can_halve = matches!(written, Err(ApplyError::Data(_) | ApplyError::Unexplained(_)));
        if can_halve && part.len() > 1 {
            let (before, after) = part.split_at(part.len() / 2);
            parts.extend([after, before]);
            continue;
        }
        if let Err(error) = &written
            && part.len() == 1
            && is_to_reject(session, shard, last.seq, error, retries).await
        {
            plan = Plan::rejecting(last, &error.to_string());
            written = transact(session, shard, step, &plan).await;
        }
        written?;
        outcome.watermark = last.seq;
        rejected::count_noted(shard, &plan.noted);
        outcome.after_closing += plan.after_closing;
        for event in &plan.rejected {
            outcome.rejected += 1;
            tracing::error!(%shard, seq = event.seq, reason = event.reason, "event rejected");
        }
    }
    Ok(())
}

/// Whether an event that has failed alone is rejected now.
async fn is_to_reject(
    session: &mut PgConnection,
    shard: Shard,
    seq: u64,
    error: &ApplyError,
    retries: &Mutex<Retries>,
) -> bool {
    match error {
        ApplyError::Data(_) => true,
        ApplyError::Unexplained(_) => lock(retries).has_failed_enough(seq),
        ApplyError::TimedOut(_) => {
            // A stalled disk holds up this write too.
            let written = timeout(SMALL_WRITE, watermark::rewrite(session, shard)).await;
            matches!(written, Ok(Ok(()))) && lock(retries).has_failed_enough(seq)
        }
        ApplyError::Moved | ApplyError::Lost(_) => false,
    }
}

fn lock(retries: &Mutex<Retries>) -> MutexGuard<'_, Retries> {
    retries.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstate_is_sorted_by_what_may_be_done_about_it() {
        for data in ["21000", "22021", "22P05", "22003", "23505", "23502", "54000"] {
            assert_eq!(cause(Some(data)), Cause::Data, "{data}");
        }
        for passing in [
            "08006", "25006", "40001", "40P01", "42P01", "42501", "53100", "53200", "55P03", "57P01",
            "57P03", "58030", "XX001",
        ] {
            assert_eq!(cause(Some(passing)), Cause::Database, "{passing}");
        }
        for unexplained in ["XX000", "P0001", "38000", "2F000", ""] {
            assert_eq!(cause(Some(unexplained)), Cause::Unexplained, "{unexplained}");
        }
        assert_eq!(cause(Some("57014")), Cause::Time);
        assert_eq!(cause(None), Cause::Database);
        let lost = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(matches!(ApplyError::from(lost), ApplyError::Lost(_)));
    }
}
