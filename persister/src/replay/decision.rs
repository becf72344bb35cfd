//! Decides whether a rejected event may still be applied.
//!
//! What must hold: no effect of a newer event is undone. If a row has the last event that changed it, the two events
//! are compared. If no row has it, an operator decides: the event is kept, with the reason.

use protocol::{
    event::{ChatMessage, Event, Member, RoomUpdate, TeamMember},
    id::Shard,
};
use sqlx::PgConnection;

use crate::{
    database::to_i64,
    shard::apply::{message, plan::WritePlan, rejected_rows, room},
};

/// What to do with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReplayDecision {
    /// Apply it as a batch does.
    Apply,
    /// It was applied before: fill in the fields that were not understood then.
    FillMissing,
    /// Nothing of it is left to apply, for this reason.
    NothingToApply(String),
    /// Leave it in `rejected_event`, for this reason.
    Keep(String),
}

/// What happened to the event when it was read from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EarlierHandling {
    /// It was applied, except for fields that were not known then.
    PartlyApplied,
    /// It was rejected, and later events that depend on it were recorded too.
    Rejected,
    /// It was rejected by a version that dropped later events which depend on it.
    RejectedByOlderVersion,
}

fn nothing_to_apply(reason: impl Into<String>) -> ReplayDecision {
    ReplayDecision::NothingToApply(reason.into())
}

fn keep(reason: impl Into<String>) -> ReplayDecision {
    ReplayDecision::Keep(reason.into())
}

/// Decides what to do with an event, while the shard's watermark is locked. `applied_in_dry_run` has the events that a
/// dry run would have applied by now.
pub(super) async fn decide(
    session: &mut PgConnection,
    shard: Shard,
    (seq, event): (u64, &Event),
    plan: &WritePlan,
    earlier: EarlierHandling,
    applied_in_dry_run: &[i64],
) -> sqlx::Result<ReplayDecision> {
    let targets: Vec<i64> =
        plan.dependents.iter().flat_map(|dependent| dependent.target_seqs.clone()).collect();
    if targets.iter().any(|target| applied_in_dry_run.contains(target)) {
        return Ok(ReplayDecision::Apply);
    }
    if let Some(target) = rejected_rows::find_unresolved(session, shard, &targets).await?.first() {
        return Ok(keep(format!("event {target}, which it changes, is not applied yet")));
    }
    match event {
        Event::ChatMessage(message) => decide_message(session, shard, seq, message, earlier).await,
        Event::Invitation(invitation) => {
            let sql = "SELECT TRUE FROM invitation WHERE shard = $1 AND user_id = $2 AND id = $3";
            let query = sqlx::query_scalar::<_, bool>(sql).bind(shard.number());
            let existing =
                query.bind(invitation.user.as_str()).bind(to_i64(seq)).fetch_optional(session).await?;
            Ok(match existing {
                Some(_) => nothing_to_apply("the invitation exists already"),
                None if earlier == EarlierHandling::PartlyApplied => {
                    nothing_to_apply("the invitation was deleted")
                }
                None => keep(
                    "it is not known whether the person was removed from the room since: invite them again",
                ),
            })
        }
        Event::MessageEdit(edit) => decide_edit(session, shard, seq, edit.room.0, &[edit.message_id.0]).await,
        Event::MessageDelete(delete) => {
            let ids: Vec<u64> = delete.messages_ids.iter().map(|id| id.0).collect();
            decide_deletion(session, shard, delete.room.0, &ids).await
        }
        Event::InvitationAnswer(answer) => {
            let sql = "SELECT accepted IS NULL FROM invitation WHERE shard = $1 AND user_id = $2 AND id = $3";
            let query = sqlx::query_scalar::<_, bool>(sql).bind(shard.number()).bind(answer.user.as_str());
            let is_unanswered = query.bind(to_i64(answer.invitation)).fetch_optional(session).await?;
            Ok(match is_unanswered {
                Some(true) => ReplayDecision::Apply,
                Some(false) => nothing_to_apply("the invitation is answered"),
                None => nothing_to_apply("there is no such invitation"),
            })
        }
        Event::Chatroom(_) | Event::RoomMade(_) => decide_new_room(session, shard, plan, earlier).await,
        Event::TeamMade(_) => {
            let query = sqlx::query_scalar::<_, bool>("SELECT TRUE FROM team WHERE shard = $1 AND id = $2");
            let existing = query.bind(shard.number()).bind(to_i64(seq)).fetch_optional(session).await?;
            Ok(if existing.is_some() {
                nothing_to_apply("the team exists already")
            } else {
                ReplayDecision::Apply
            })
        }
        Event::MemberAdd(member) => decide_room_member(session, shard, seq, member, earlier, true).await,
        Event::MemberRemove(member) => decide_room_member(session, shard, seq, member, earlier, false).await,
        Event::TeamMemberAdd(member) => decide_team_member(session, shard, member, earlier, true).await,
        Event::TeamMemberRemove(member) => decide_team_member(session, shard, member, earlier, false).await,
        Event::RoomUpdate(update) => decide_room_update(session, shard, seq, update).await,
        // Writing these keeps the newest by itself: the highest mark, the last `issued_at`.
        Event::MessageRead(_) | Event::Profile(_) => Ok(ReplayDecision::Apply),
        Event::RoomSelect(_) | Event::Camera(_) => Ok(nothing_to_apply(
            "it mattered only at that moment: people choose again, and it is not known which choice is newer",
        )),
        Event::ParticipantJoin(_) | Event::ParticipantLeave(_) | Event::Online(_) | Event::Offline(_) => {
            Ok(nothing_to_apply("it mattered only at that moment: fan-out nodes report who is present"))
        }
    }
}

/// Fills in what an older version did not understand of an event that it applied.
pub(super) async fn fill_missing(
    session: &mut PgConnection,
    shard: Shard,
    (seq, event): (u64, &Event),
) -> sqlx::Result<()> {
    match event {
        Event::ChatMessage(message) => message::fill_missing(session, shard, seq, message).await,
        Event::Chatroom(room) | Event::RoomMade(room) => room::fill_missing(session, shard, seq, room).await,
        // Their rows have no columns that may be missing.
        _ => Ok(()),
    }
}

/// Applies a message unless it exists, or an edit or deletion of it may have been dropped.
async fn decide_message(
    session: &mut PgConnection,
    shard: Shard,
    seq: u64,
    message: &ChatMessage,
    earlier: EarlierHandling,
) -> sqlx::Result<ReplayDecision> {
    let exists = !read_messages(session, shard, message.room.0, &[seq]).await?.is_empty();
    Ok(match (exists, earlier) {
        (true, EarlierHandling::PartlyApplied) => ReplayDecision::FillMissing,
        (true, _) => nothing_to_apply("the message exists already"),
        (false, EarlierHandling::PartlyApplied) => nothing_to_apply("the message does not exist any more"),
        (false, EarlierHandling::Rejected) => ReplayDecision::Apply,
        (false, EarlierHandling::RejectedByOlderVersion) => keep(
            "the version that rejected it has dropped edits and deletions that may have come after it: \
             if there were none, set the row's cause to 'unreadable' and run this again",
        ),
    })
}

/// Applies an edit unless the message is gone or deleted, or has a newer edit.
async fn decide_edit(
    session: &mut PgConnection,
    shard: Shard,
    seq: u64,
    room: u64,
    ids: &[u64],
) -> sqlx::Result<ReplayDecision> {
    let rows = read_messages(session, shard, room, ids).await?;
    Ok(match rows.first() {
        None => nothing_to_apply("there is no such message"),
        Some((true, _)) => nothing_to_apply("the message is deleted"),
        Some((false, Some(changed))) if *changed > to_i64(seq) => {
            nothing_to_apply(format!("event {changed}, a newer edit, was applied"))
        }
        Some(_) => ReplayDecision::Apply,
    })
}

/// Applies a deletion however late it is, since no edit undoes it.
async fn decide_deletion(
    session: &mut PgConnection,
    shard: Shard,
    room: u64,
    ids: &[u64],
) -> sqlx::Result<ReplayDecision> {
    let rows = read_messages(session, shard, room, ids).await?;
    let is_any_left = rows.iter().any(|(is_deleted, _)| !is_deleted);
    Ok(if is_any_left {
        ReplayDecision::Apply
    } else {
        nothing_to_apply("none of these messages is there any more")
    })
}

/// For each message that exists: whether it is deleted, and the last event that changed it.
async fn read_messages(
    session: &mut PgConnection,
    shard: Shard,
    room: u64,
    ids: &[u64],
) -> sqlx::Result<Vec<(bool, Option<i64>)>> {
    sqlx::query_as(
        "SELECT deleted_at IS NOT NULL, changed FROM message WHERE shard = $1 AND room = $2 AND id = ANY($3)",
    )
    .bind(shard.number())
    .bind(to_i64(room))
    .bind(ids.iter().map(|id| to_i64(*id)).collect::<Vec<_>>())
    .fetch_all(session)
    .await
}

async fn decide_new_room(
    session: &mut PgConnection,
    shard: Shard,
    plan: &WritePlan,
    earlier: EarlierHandling,
) -> sqlx::Result<ReplayDecision> {
    let Some(new_room) = plan.rooms.first() else { return Ok(keep("the room can't be read")) };
    let (key, generation) =
        new_room.key_and_generation.as_ref().map(|(key, generation)| (key, generation)).unzip();
    // Finds the room itself, or another one with its key and generation.
    let existing: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM room WHERE shard = $1 AND (id = $2 OR (key = $3 AND generation = $4))
         ORDER BY id = $2 DESC LIMIT 1",
    )
    .bind(shard.number())
    .bind(to_i64(new_room.id))
    .bind(key)
    .bind(generation)
    .fetch_optional(session)
    .await?;
    Ok(match existing {
        Some(id) if id == to_i64(new_room.id) && earlier == EarlierHandling::PartlyApplied => {
            ReplayDecision::FillMissing
        }
        Some(id) if id == to_i64(new_room.id) => nothing_to_apply("the room exists already"),
        Some(id) => nothing_to_apply(format!("room {id} was made under the same key")),
        None if earlier == EarlierHandling::PartlyApplied => {
            nothing_to_apply("the room does not exist any more")
        }
        None => ReplayDecision::Apply,
    })
}

/// The last event that changed a room or its members, if it is newer than `seq`.
async fn read_newer_change(
    session: &mut PgConnection,
    shard: Shard,
    seq: u64,
    room: u64,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("SELECT changed FROM room_state WHERE shard = $1 AND room = $2 AND changed > $3")
        .bind(shard.number())
        .bind(to_i64(room))
        .bind(to_i64(seq))
        .fetch_optional(session)
        .await
}

async fn decide_room_update(
    session: &mut PgConnection,
    shard: Shard,
    seq: u64,
    update: &RoomUpdate,
) -> sqlx::Result<ReplayDecision> {
    let Some(newer) = read_newer_change(session, shard, seq, update.room.0).await? else {
        return Ok(ReplayDecision::Apply);
    };
    // A closed room stays closed, whatever newer events changed.
    let closes_only = RoomUpdate { closed: None, ..update.clone() }
        == RoomUpdate { updated_at: update.updated_at, ..RoomUpdate::new(update.room, update.by.clone()) };
    Ok(if closes_only && update.closed == Some(true) {
        ReplayDecision::Apply
    } else {
        keep(format!(
            "the room was changed since, by event {newer}: change it by hand if this is still wanted"
        ))
    })
}

async fn decide_room_member(
    session: &mut PgConnection,
    shard: Shard,
    seq: u64,
    member: &Member,
    earlier: EarlierHandling,
    is_addition: bool,
) -> sqlx::Result<ReplayDecision> {
    let sql = "SELECT TRUE FROM room_member WHERE shard = $1 AND room = $2 AND user_id COLLATE \"C\" = $3";
    let is_member = sqlx::query_scalar::<_, bool>(sql).bind(shard.number()).bind(to_i64(member.room.0));
    let is_member = is_member.bind(member.user.as_str()).fetch_optional(&mut *session).await?.is_some();
    if is_member == is_addition || earlier == EarlierHandling::PartlyApplied {
        return Ok(no_membership_change(is_member));
    }
    Ok(match read_newer_change(session, shard, seq, member.room.0).await? {
        None => ReplayDecision::Apply,
        Some(newer) => keep(format!(
            "the room or its members were changed since, by event {newer}: do it by hand if this is still wanted"
        )),
    })
}

async fn decide_team_member(
    session: &mut PgConnection,
    shard: Shard,
    member: &TeamMember,
    earlier: EarlierHandling,
    is_addition: bool,
) -> sqlx::Result<ReplayDecision> {
    let sql = "SELECT TRUE FROM team_member WHERE shard = $1 AND team = $2 AND user_id COLLATE \"C\" = $3";
    let is_member = sqlx::query_scalar::<_, bool>(sql).bind(shard.number()).bind(to_i64(member.team.0));
    let is_member = is_member.bind(member.user.as_str()).fetch_optional(session).await?.is_some();
    Ok(if is_member == is_addition || earlier == EarlierHandling::PartlyApplied {
        no_membership_change(is_member)
    } else {
        keep(
            "it is not known whether the team's members were changed since: do it by hand if this is still wanted",
        )
    })
}

fn no_membership_change(is_member: bool) -> ReplayDecision {
    nothing_to_apply(if is_member { "the person is a member" } else { "the person is no member" })
}
