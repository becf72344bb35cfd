//! Writes a batch: the watermark and its rows in one transaction.
//!
//! What must hold: applying is total. What Postgres refuses for its data is found by halving the
//! batch, and noted in `rejected_event` in the same transaction as its watermark. An event is never rejected
//! because the database is slow: a time-out counts only where Postgres writes other things meanwhile.

pub(crate) mod closed_rooms;
mod members;
mod membership;
pub(crate) mod message;
mod participant;
mod person;
pub(crate) mod plan;
pub(crate) mod rejected_event;
pub(crate) mod rejected_rows;
mod revisions;
pub(crate) mod room;
mod search_due;
mod team;
mod validate;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol::{event::Event, id::Shard};
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use self::{closed_rooms::RecentlyClosedRooms, plan::WritePlan};
use crate::database::{DatabaseFailure, unix_nanos};
use crate::shard::{
    batcher::Batch,
    retries::BatchRetries,
    watermark::{self, WatermarkAdvance},
};

/// How long a small write may take after an event that timed out, for the event to be what is slow.
const PROBE_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a batch is not known to be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// Somebody else moved the watermark, or began a new epoch: nothing was written.
    #[error("another persister has moved the watermark, or the log has a new epoch")]
    WatermarkMoved,
    /// Postgres failed.
    #[error(transparent)]
    Database(#[from] DatabaseFailure),
}

impl From<sqlx::Error> for ApplyError {
    fn from(error: sqlx::Error) -> Self {
        DatabaseFailure::from(error).into()
    }
}

impl ApplyError {
    /// The outcome as metrics name it.
    pub(crate) const fn metric_label(&self) -> &'static str {
        match self {
            Self::WatermarkMoved => "moved",
            Self::Database(failure) => failure.metric_label(),
        }
    }
}

/// Writes a plan and moves the watermark over it.
pub(crate) async fn commit_plan(
    session: &mut PgConnection,
    shard: Shard,
    advance: WatermarkAdvance,
    plan: &WritePlan,
) -> Result<(), ApplyError> {
    let mut transaction = session.begin().await?;
    let held = &mut *transaction;
    if !watermark::advance(held, shard, advance).await? {
        transaction.rollback().await?;
        return Err(ApplyError::WatermarkMoved);
    }
    let written = write_rows(held, shard, advance.expected_seq, plan).await;
    if let Err(error) = written {
        transaction.rollback().await.map_err(DatabaseFailure::Lost)?;
        return Err(error.into());
    }
    // Where Postgres itself answers with an error, nothing was written: otherwise it is not known.
    transaction.commit().await.map_err(ApplyError::from)
}

/// Writes a plan's rows, in the transaction that is open.
pub(crate) async fn write_rows(
    session: &mut PgConnection,
    shard: Shard,
    after_seq: u64,
    plan: &WritePlan,
) -> sqlx::Result<()> {
    message::insert(session, shard, &plan.messages).await?;
    participant::upsert(session, shard, &plan.participants).await?;
    participant::upsert_online(session, shard, &plan.online).await?;
    for new in &plan.rooms {
        room::insert(session, shard, new).await?;
    }
    message::update_texts(session, shard, &plan.revisions.edits()).await?;
    message::mark_deleted(session, shard, &plan.revisions.deletions()).await?;
    message::advance_read_marks(session, shard, &plan.read_marks).await?;
    for (seq, event) in &plan.ordered_events {
        write_event(session, shard, *seq, event).await?;
    }
    room::set_last_changed(session, shard, &plan.last_seq_by_room).await?;
    members::write(session, shard, members::ROOM_MEMBERS, &plan.room_members).await?;
    members::write(session, shard, members::TEAM_MEMBERS, &plan.team_members).await?;
    search_due::insert(session, shard, after_seq, plan).await?;
    rejected_rows::insert(session, shard, &plan.rejected).await?;
    rejected_rows::insert_dependents_of_rejected(session, shard, &plan.dependents).await?;
    rejected_rows::insert_partly_applied(session, shard, &plan.partly_applied).await
}

async fn write_event(session: &mut PgConnection, shard: Shard, seq: u64, event: &Event) -> sqlx::Result<()> {
    match event {
        Event::RoomUpdate(update) => room::update(session, shard, seq, update).await,
        Event::TeamMade(team) => team::insert(session, shard, seq, team).await,
        Event::Invitation(invitation) => person::insert_invitation(session, shard, seq, invitation).await,
        Event::InvitationAnswer(answer) => person::answer_invitation(session, shard, answer).await,
        Event::Profile(profile) => person::merge_profile(session, shard, profile).await,
        Event::RoomSelect(select) => person::set_current_room(session, shard, select).await,
        Event::Camera(camera) => person::set_camera(session, shard, camera).await,
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
pub(crate) struct ApplyOutcome {
    /// Up to where the watermark has moved.
    pub(crate) watermark_seq: u64,
    /// How many events could not be applied.
    pub(crate) rejected_events: u64,
    /// How many stood behind the closing of their room.
    pub(crate) dropped_after_closing: u64,
}

/// Writes a run of contiguous events, read in `epoch`, after the watermark that `outcome` holds. What
/// Postgres refuses for its data, or without a known reason, is halved until the single event is found; in
/// the second case that event is rejected only after it has failed alone several times. So is a single event
/// that times out while Postgres writes other things; a longer run that times out is the caller's to halve.
/// `outcome` says how far it came, also after an error.
pub(crate) async fn apply_batch(
    session: &mut PgConnection,
    shard: Shard,
    epoch: u64,
    batch: &Batch,
    retries: &Mutex<BatchRetries>,
    closed_rooms: &mut RecentlyClosedRooms,
    outcome: &mut ApplyOutcome,
) -> Result<(), ApplyError> {
    let log_end_seq = batch.log_end_seq();
    let mut parts = vec![batch.events.as_slice()];
    while let Some(part) = parts.pop() {
        let Some(last) = part.last() else { continue };
        let stored_at = unix_nanos(last.time);
        let step = WatermarkAdvance {
            epoch,
            expected_seq: outcome.watermark_seq,
            new_seq: last.seq,
            stored_at_ns: stored_at,
            log_end_seq,
        };
        let mut plan = WritePlan::build(part, closed_rooms);
        let mut written = commit_plan(session, shard, step, &plan).await;
        let can_halve = matches!(
            written,
            Err(ApplyError::Database(DatabaseFailure::Data(_) | DatabaseFailure::Unexplained(_)))
        );
        if can_halve && part.len() > 1 {
            let (before, after) = part.split_at(part.len() / 2);
            parts.extend([after, before]);
            continue;
        }
        if let Err(error) = &written
            && part.len() == 1
            && can_reject_now(session, shard, last.seq, error, retries).await
        {
            plan = WritePlan::reject_only(last, &error.to_string());
            written = commit_plan(session, shard, step, &plan).await;
        }
        written?;
        outcome.watermark_seq = last.seq;
        rejected_rows::count_unknown_fields(shard, &plan.partly_applied);
        outcome.dropped_after_closing += plan.dropped_after_closing;
        for event in &plan.rejected {
            outcome.rejected_events += 1;
            tracing::error!(%shard, seq = event.seq, reason = event.reason, "event rejected");
        }
    }
    Ok(())
}

/// Whether an event that has failed alone is rejected now.
async fn can_reject_now(
    session: &mut PgConnection,
    shard: Shard,
    seq: u64,
    error: &ApplyError,
    retries: &Mutex<BatchRetries>,
) -> bool {
    match error {
        ApplyError::Database(DatabaseFailure::Data(_)) => true,
        ApplyError::Database(DatabaseFailure::Unexplained(_)) => lock(retries).note_failure_of(seq),
        ApplyError::Database(DatabaseFailure::TimedOut(_)) => {
            // A stalled disk holds up this write too.
            let written = timeout(PROBE_WRITE_TIMEOUT, watermark::probe_write(session, shard)).await;
            matches!(written, Ok(Ok(()))) && lock(retries).note_failure_of(seq)
        }
        ApplyError::WatermarkMoved | ApplyError::Database(DatabaseFailure::Lost(_)) => false,
    }
}

fn lock(retries: &Mutex<BatchRetries>) -> MutexGuard<'_, BatchRetries> {
    retries.lock().unwrap_or_else(PoisonError::into_inner)
}
