//! Writes batches of one or several shards: their watermarks and rows in one transaction.
//!
//! What must hold: every event is applied, recorded in `rejected_event`, or left out because its room was closed before
//! it, in the transaction that moves the watermark past it. Events that Postgres refuses for their data are found by
//! halving the batch. An event is never rejected because the database is slow: a time-out counts only if Postgres can
//! write other things meanwhile.

pub(crate) mod batch;
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

use protocol::{event::Event, id::Shard};
use sqlx::{Connection as _, PgConnection};

use self::plan::WritePlan;
use crate::{
    database::DatabaseFailure,
    shard::watermark::{self, WatermarkAdvance},
};

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

/// The rows that events of one shard write.
#[derive(Clone, Copy)]
pub(crate) struct ShardRows<'a> {
    pub(crate) shard: Shard,
    /// The event before the first of them.
    pub(crate) after_seq: u64,
    pub(crate) plan: &'a WritePlan,
}

/// A step of a shard's watermark, and the rows of the events in it.
pub(crate) struct ShardStep {
    pub(crate) advance: WatermarkAdvance,
    pub(crate) plan: WritePlan,
}

/// Moves the watermark of each shard and writes its rows, all in one transaction. Returns the shards whose watermark
/// was as expected; of the others nothing is written.
pub(crate) async fn commit_steps(
    session: &mut PgConnection,
    steps: &[ShardStep],
) -> Result<Vec<Shard>, ApplyError> {
    let mut transaction = session.begin().await?;
    let connection = &mut *transaction;
    let moved = watermark::advance(connection, steps.iter().map(|step| &step.advance)).await?;
    let rows: Vec<ShardRows<'_>> = steps
        .iter()
        .filter(|step| moved.contains(&step.advance.shard))
        .map(|ShardStep { advance, plan }| ShardRows {
            shard: advance.shard,
            after_seq: advance.expected_seq,
            plan,
        })
        .collect();
    if rows.is_empty() {
        transaction.rollback().await?;
        return Ok(moved);
    }
    let result = write_rows(connection, &rows).await;
    if let Err(error) = result {
        transaction.rollback().await.map_err(DatabaseFailure::Lost)?;
        return Err(error.into());
    }
    // If Postgres answers with an error, nothing was written; without an answer the outcome is unknown.
    transaction.commit().await.map_err(ApplyError::from)?;
    Ok(moved)
}

/// [`commit_steps`] for one shard.
async fn commit_step(session: &mut PgConnection, step: &ShardStep) -> Result<(), ApplyError> {
    let moved = commit_steps(session, std::slice::from_ref(step)).await?;
    if moved.is_empty() { Err(ApplyError::WatermarkMoved) } else { Ok(()) }
}

/// Writes the rows of each shard in the open transaction: those that most batches have by one statement for all shards,
/// the others shard by shard.
pub(crate) async fn write_rows(session: &mut PgConnection, rows: &[ShardRows<'_>]) -> sqlx::Result<()> {
    message::insert(session, rows.iter().map(|part| (part.shard, part.plan.messages.as_slice()))).await?;
    participant::upsert(session, rows).await?;
    participant::upsert_online(session, rows).await?;
    message::advance_read_marks(session, rows).await?;
    for ShardRows { shard, plan, .. } in rows {
        write_rare_rows(session, *shard, plan).await?;
    }
    search_due::insert(session, rows).await
}

/// Writes the rows of one shard that most batches do not have.
async fn write_rare_rows(session: &mut PgConnection, shard: Shard, plan: &WritePlan) -> sqlx::Result<()> {
    for new_room in &plan.rooms {
        room::insert(session, shard, new_room).await?;
    }
    message::update_texts(session, shard, &plan.revisions.edits()).await?;
    message::mark_deleted(session, shard, &plan.revisions.deletions()).await?;
    for (seq, event) in &plan.ordered_events {
        write_event(session, shard, *seq, event).await?;
    }
    room::set_last_changed(session, shard, &plan.last_seq_by_room).await?;
    members::write(session, shard, members::ROOM_MEMBERS, &plan.room_members).await?;
    members::write(session, shard, members::TEAM_MEMBERS, &plan.team_members).await?;
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
