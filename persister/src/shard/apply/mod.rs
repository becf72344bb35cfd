//! Writes a batch: the watermark and its rows in one transaction.
//!
//! What must hold: every event is applied, recorded in `rejected_event`, or left out because its room was closed before
//! it, in the transaction that moves the watermark past it. Events that Postgres refuses for their data are found by
//! halving the batch. An event is never rejected because the database is slow: a time-out counts only if Postgres can
//! write other things meanwhile.

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

/// How long a small write may take, after an event has timed out, for the time-out to be blamed on the event.
const PROBE_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a batch was not written, or may not have been.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// Another process moved the watermark, or began a new epoch: nothing was written.
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
    /// The outcome as a value of the metrics' label `outcome`.
    pub(crate) const fn metric_label(&self) -> &'static str {
        match self {
            Self::WatermarkMoved => "moved",
            Self::Database(failure) => failure.metric_label(),
        }
    }
}

/// Moves the watermark and writes a plan's rows, in one transaction.
pub(crate) async fn commit_plan(
    session: &mut PgConnection,
    shard: Shard,
    advance: WatermarkAdvance,
    plan: &WritePlan,
) -> Result<(), ApplyError> {
    let mut transaction = session.begin().await?;
    let connection = &mut *transaction;
    if !watermark::advance(connection, shard, advance).await? {
        transaction.rollback().await?;
        return Err(ApplyError::WatermarkMoved);
    }
    let result = write_rows(connection, shard, advance.expected_seq, plan).await;
    if let Err(error) = result {
        transaction.rollback().await.map_err(DatabaseFailure::Lost)?;
        return Err(error.into());
    }
    // If Postgres answers with an error, nothing was written; without an answer the outcome is unknown.
    transaction.commit().await.map_err(ApplyError::from)
}

/// Writes a plan's rows in the open transaction.
pub(crate) async fn write_rows(
    session: &mut PgConnection,
    shard: Shard,
    after_seq: u64,
    plan: &WritePlan,
) -> sqlx::Result<()> {
    message::insert(session, shard, &plan.messages).await?;
    participant::upsert(session, shard, &plan.participants).await?;
    participant::upsert_online(session, shard, &plan.online).await?;
    for new_room in &plan.rooms {
        room::insert(session, shard, new_room).await?;
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
        // Written in bulk by `write_rows`.
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

/// What happened to a run of events.
#[derive(Debug, Default)]
pub(crate) struct ApplyOutcome {
    /// The watermark after the events that were committed.
    pub(crate) watermark_seq: u64,
    /// Number of events that could not be applied.
    pub(crate) rejected_events: u64,
    /// Number of events left out because their room was closed before them.
    pub(crate) dropped_after_closing: u64,
}

/// Writes a batch of contiguous events, read in `epoch`, after the watermark that `outcome` holds.
///
/// A part that Postgres refuses for its data, or without a known cause, is halved until a single event is left. That
/// event is rejected: at once for its data, otherwise only after it has failed alone several times. A single event that
/// times out while Postgres can write other things counts as one without a known cause; for a longer part that times
/// out, the caller must shrink the next batch. `outcome` says how far the writing got, also after an error.
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
        let stored_at_ns = unix_nanos(last.time);
        let advance = WatermarkAdvance {
            epoch,
            expected_seq: outcome.watermark_seq,
            new_seq: last.seq,
            stored_at_ns,
            log_end_seq,
        };
        let mut plan = WritePlan::build(part, closed_rooms);
        let mut result = commit_plan(session, shard, advance, &plan).await;
        let can_halve = matches!(
            result,
            Err(ApplyError::Database(DatabaseFailure::Data(_) | DatabaseFailure::Unexplained(_)))
        );
        if can_halve && part.len() > 1 {
            let (before, after) = part.split_at(part.len() / 2);
            parts.extend([after, before]);
            continue;
        }
        if let Err(error) = &result
            && part.len() == 1
            && can_reject_now(session, shard, last.seq, error, retries).await
        {
            plan = WritePlan::reject_only(last, &error.to_string());
            result = commit_plan(session, shard, advance, &plan).await;
        }
        result?;
        outcome.watermark_seq = last.seq;
        rejected_rows::count_unknown_fields(shard, &plan.partly_applied);
        outcome.dropped_after_closing += plan.dropped_after_closing;
        for event in &plan.rejected {
            outcome.rejected_events += 1;
            tracing::error!(
                %shard,
                seq = event.seq,
                reason = event.reason,
                "event rejected: it is kept in rejected_event"
            );
        }
    }
    Ok(())
}

/// Whether to reject an event that has failed alone.
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
            let probe = timeout(PROBE_WRITE_TIMEOUT, watermark::probe_write(session, shard)).await;
            matches!(probe, Ok(Ok(()))) && lock(retries).note_failure_of(seq)
        }
        ApplyError::WatermarkMoved | ApplyError::Database(DatabaseFailure::Lost(_)) => false,
    }
}

fn lock(retries: &Mutex<BatchRetries>) -> MutexGuard<'_, BatchRetries> {
    retries.lock().unwrap_or_else(PoisonError::into_inner)
}
