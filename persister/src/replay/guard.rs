//! Whether a rejected event may still be applied.
//!
//! What must hold: no effect of a newer event is undone. Where a row says which event changed it last, the
//! two are compared. Where no row can say it, a person decides: the event stays, with the reason.

use protocol::{
    event::{ChatMessage, Event, Member, RoomUpdate, TeamMember},
    id::Shard,
};
use sqlx::PgConnection;

use crate::{
    apply::{message, rejected, room},
    batch::Plan,
    watermark::number,
};

/// What may be done with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// Apply it as a batch does.
    Apply,
    /// It is applied already: fill in the fields that were not understood then.
    Fill,
    /// Nothing of it is left to apply.
    Settled(String),
    /// It stays as it is.
    Left(String),
}

/// What became of the event when it was read from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// It was applied, but for fields that were not known then.
    Applied,
    /// It was rejected, and later events about what it would have made were kept too.
    Rejected,
    /// It was rejected by a version that applied later events about it to nothing.
    RejectedByOlder,
}

fn settled(reason: impl Into<String>) -> Ruling {
    Ruling::Settled(reason.into())
}

fn left(reason: impl Into<String>) -> Ruling {
    Ruling::Left(reason.into())
}

/// Says what may be done with an event, while the shard's watermark is locked. `rehearsed` has events that a
/// dry run would have applied by now.
pub(super) async fn rule(
    session: &mut PgConnection,
    shard: Shard,
    (seq, event): (u64, &Event),
    plan: &Plan,
    past: Past,
    rehearsed: &[i64],
) -> sqlx::Result<Ruling> {
    let targets: Vec<i64> = plan.dependents.iter().flat_map(|dependent| dependent.targets.clone()).collect();
    if targets.iter().any(|target| rehearsed.contains(target)) {
        return Ok(Ruling::Apply);
    }
    if let Some(target) = rejected::waiting(session, shard, &targets).await?.first() {
        return Ok(left(format!("event {target}, which it changes, is not applied yet")));
    }
    match event {
        Event::ChatMessage(message) => chat_message(session, shard, seq, message, past).await,
        Event::Invitation(invitation) => {
            let sql = "SELECT TRUE FROM invitation WHERE shard = $1 AND user_id = $2 AND id = $3";
            let asked = sqlx::query_scalar::<_, bool>(sql).bind(shard.number());
            let asked =
                asked.bind(invitation.user.as_str()).bind(number(seq)).fetch_optional(session).await?;
            Ok(match asked {
                Some(_) => settled("the invitation is there"),
                None if past == Past::Applied => settled("the invitation is gone"),
                None => {
                    left("whether the person was put out of the room since is not known: invite them again")
                }
            })
        }
        Event::MessageEdit(edit) => changed(session, shard, seq, edit.room.0, &[edit.message_id.0]).await,
        Event::MessageDelete(delete) => {
            let ids: Vec<u64> = delete.messages_ids.iter().map(|id| id.0).collect();
            deleted(session, shard, delete.room.0, &ids).await
        }
        Event::InvitationAnswer(answer) => {
            let sql = "SELECT accepted IS NULL FROM invitation WHERE shard = $1 AND user_id = $2 AND id = $3";
            let open = sqlx::query_scalar::<_, bool>(sql).bind(shard.number()).bind(answer.user.as_str());
            let open = open.bind(number(answer.invitation)).fetch_optional(session).await?;
            Ok(match open {
                Some(true) => Ruling::Apply,
                Some(false) => settled("the invitation is answered"),
                None => settled("there is no such invitation"),
            })
        }
        Event::Chatroom(_) | Event::RoomMade(_) => new_room(session, shard, plan, past).await,
        Event::TeamMade(_) => {
            let found = sqlx::query_scalar::<_, bool>("SELECT TRUE FROM team WHERE shard = $1 AND id = $2");
            let found = found.bind(shard.number()).bind(number(seq)).fetch_optional(session).await?;
            Ok(if found.is_some() { settled("the team is there") } else { Ruling::Apply })
        }
        Event::MemberAdd(member) => room_member(session, shard, seq, member, past, true).await,
        Event::MemberRemove(member) => room_member(session, shard, seq, member, past, false).await,
        Event::TeamMemberAdd(member) => team_member(session, shard, member, past, true).await,
        Event::TeamMemberRemove(member) => team_member(session, shard, member, past, false).await,
        Event::RoomUpdate(update) => room_update(session, shard, seq, update).await,
        // These say themselves which of them is newer.
        Event::MessageRead(_) | Event::Profile(_) => Ok(Ruling::Apply),
        Event::RoomSelect(_) | Event::Camera(_) => {
            Ok(settled("of that moment only: people choose again, and which choice is newer is not known"))
        }
        Event::ParticipantJoin(_) | Event::ParticipantLeave(_) | Event::Online(_) | Event::Offline(_) => {
            Ok(settled("of that moment only: nodes say who is there"))
        }
    }
}

/// Fills in what an older version has not understood of an event that it applied.
pub(super) async fn fill(
    session: &mut PgConnection,
    shard: Shard,
    (seq, event): (u64, &Event),
) -> sqlx::Result<()> {
    match event {
        Event::ChatMessage(message) => message::fill(session, shard, seq, message).await,
        Event::Chatroom(room) | Event::RoomMade(room) => room::fill(session, shard, seq, room).await,
        // Their rows have nothing that may be absent.
        _ => Ok(()),
    }
}

/// A message counts unless it is there; but not where a deletion of it may have been applied to nothing.
async fn chat_message(
    session: &mut PgConnection,
    shard: Shard,
    seq: u64,
    message: &ChatMessage,
    past: Past,
) -> sqlx::Result<Ruling> {
    let is_there = !messages(session, shard, message.room.0, &[seq]).await?.is_empty();
    Ok(match (is_there, past) {
        (true, Past::Applied) => Ruling::Fill,
        (true, _) => settled("the message is there"),
        (false, Past::Applied) => settled("the message is gone"),
        (false, Past::Rejected) => Ruling::Apply,
        (false, Past::RejectedByOlder) => left(
            "the version that rejected it has dropped edits and deletions that may have come after it: \
             where there were none, set the row's cause to 'unreadable' and run this again",
        ),
    })
}

/// An edit counts unless the message is gone or has a newer one.
async fn changed(
    session: &mut PgConnection,
    shard: Shard,
    seq: u64,
    room: u64,
    ids: &[u64],
) -> sqlx::Result<Ruling> {
    let rows = messages(session, shard, room, ids).await?;
    Ok(match rows.first() {
        None => settled("there is no such message"),
        Some((true, _)) => settled("the message is deleted"),
        Some((false, Some(changed))) if *changed > number(seq) => {
            settled(format!("event {changed}, a newer edit, was applied"))
        }
        Some(_) => Ruling::Apply,
    })
}

/// A deletion counts whenever it comes: no edit undoes it.
async fn deleted(session: &mut PgConnection, shard: Shard, room: u64, ids: &[u64]) -> sqlx::Result<Ruling> {
    let rows = messages(session, shard, room, ids).await?;
    let is_open = rows.iter().any(|(is_deleted, _)| !is_deleted);
    Ok(if is_open { Ruling::Apply } else { settled("none of these messages is there any more") })
}

/// Of each message that is there: whether it is deleted, and the last event that changed it.
async fn messages(
    session: &mut PgConnection,
    shard: Shard,
    room: u64,
    ids: &[u64],
) -> sqlx::Result<Vec<(bool, Option<i64>)>> {
    sqlx::query_as(
        "SELECT deleted_at IS NOT NULL, changed FROM message WHERE shard = $1 AND room = $2 AND id = ANY($3)",
    )
    .bind(shard.number())
    .bind(number(room))
    .bind(ids.iter().map(|id| number(*id)).collect::<Vec<_>>())
    .fetch_all(session)
    .await
}

async fn new_room(session: &mut PgConnection, shard: Shard, plan: &Plan, past: Past) -> sqlx::Result<Ruling> {
    let Some(new) = plan.rooms.first() else { return Ok(left("the room can't be read")) };
    let (key, generation) = new.key.as_ref().map(|(key, generation)| (key, generation)).unzip();
    // Either it is there, or another one was made in its place.
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM room WHERE shard = $1 AND (id = $2 OR (key = $3 AND generation = $4))
         ORDER BY id = $2 DESC LIMIT 1",
    )
    .bind(shard.number())
    .bind(number(new.id))
    .bind(key)
    .bind(generation)
    .fetch_optional(session)
    .await?;
    Ok(match found {
        Some(id) if id == number(new.id) && past == Past::Applied => Ruling::Fill,
        Some(id) if id == number(new.id) => settled("the room is there"),
        Some(id) => settled(format!("room {id} was made under the same key")),
        None if past == Past::Applied => settled("the room is gone"),
        None => Ruling::Apply,
    })
}

/// The last event that changed a room or who may enter it, where that is a newer one.
async fn newer(session: &mut PgConnection, shard: Shard, seq: u64, room: u64) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("SELECT changed FROM room_state WHERE shard = $1 AND room = $2 AND changed > $3")
        .bind(shard.number())
        .bind(number(room))
        .bind(number(seq))
        .fetch_optional(session)
        .await
}

async fn room_update(
    session: &mut PgConnection,
    shard: Shard,
    seq: u64,
    update: &RoomUpdate,
) -> sqlx::Result<Ruling> {
    let Some(newer) = newer(session, shard, seq, update.room.0).await? else { return Ok(Ruling::Apply) };
    // A closed room stays closed, whatever came after.
    let closes_only = RoomUpdate { closed: None, ..update.clone() }
        == RoomUpdate { updated_at: update.updated_at, ..RoomUpdate::new(update.room, update.by.clone()) };
    Ok(if closes_only && update.closed == Some(true) {
        Ruling::Apply
    } else {
        left(format!(
            "the room was changed since, by event {newer}: change it by hand where this is still meant"
        ))
    })
}

async fn room_member(
    session: &mut PgConnection,
    shard: Shard,
    seq: u64,
    member: &Member,
    past: Past,
    adds: bool,
) -> sqlx::Result<Ruling> {
    let sql = "SELECT TRUE FROM room_member WHERE shard = $1 AND room = $2 AND user_id COLLATE \"C\" = $3";
    let is_member = sqlx::query_scalar::<_, bool>(sql).bind(shard.number()).bind(number(member.room.0));
    let is_member = is_member.bind(member.user.as_str()).fetch_optional(&mut *session).await?.is_some();
    if is_member == adds || past == Past::Applied {
        return Ok(stands(is_member));
    }
    Ok(match newer(session, shard, seq, member.room.0).await? {
        None => Ruling::Apply,
        Some(newer) => left(format!(
            "the room or its members were changed since, by event {newer}: do it by hand where this is still meant"
        )),
    })
}

async fn team_member(
    session: &mut PgConnection,
    shard: Shard,
    member: &TeamMember,
    past: Past,
    adds: bool,
) -> sqlx::Result<Ruling> {
    let sql = "SELECT TRUE FROM team_member WHERE shard = $1 AND team = $2 AND user_id COLLATE \"C\" = $3";
    let is_member = sqlx::query_scalar::<_, bool>(sql).bind(shard.number()).bind(number(member.team.0));
    let is_member = is_member.bind(member.user.as_str()).fetch_optional(session).await?.is_some();
    Ok(if is_member == adds || past == Past::Applied {
        stands(is_member)
    } else {
        left(
            "whether the team's members were changed since is not known: do it by hand where this is still meant",
        )
    })
}

fn stands(is_member: bool) -> Ruling {
    settled(if is_member { "the person is a member" } else { "the person is no member" })
}
