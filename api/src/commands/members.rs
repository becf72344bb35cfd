//! Adds and removes members of rooms, and lists who is in a room.

use protocol::{
    caller::Caller,
    error::{Error, ErrorCode},
    event::{Event, EventName, Member, RoomKind},
    id::{RoomId, UserId},
    subject::Channel,
};
use tokio::time::Instant;

use super::{
    access_after, idempotent_write, invitations, request_context::RequestContext, require_manage,
    require_read,
};
use crate::access::RoomSnapshot;
use crate::{
    commands::state::ApiState,
    queries::{members, rooms},
};

/// Up to `limit` of the people who may enter a room where not everyone may, after that one, in the order of their ids.
pub(crate) async fn list(
    api: &ApiState,
    caller: &Caller,
    room: RoomId,
    after: Option<&UserId>,
    limit: i64,
) -> Result<Vec<UserId>, Error> {
    let access = api.access.load(room, &[&caller.user], Instant::now()).await?;
    if !access.can_join(caller) {
        return Err(Error::not_found());
    }
    let RoomSnapshot { kind, team, users, is_applied, .. } = &*access.room;
    match (kind, team) {
        (kind, _) if kind.is_open() => Ok(vec![]),
        (kind, _) if kind.is_pair() => Ok(page_of(users.named.iter(), after, limit)),
        (_, _) if !is_applied => Ok(page_of(access.known_members(), after, limit)),
        (_, Some(team)) => members::list_team_members(&api.pool, api.shards, *team, after, limit).await,
        (_, None) => members::list_room_members(&api.pool, api.shards, room, after, limit).await,
    }
}

/// A page of people who are in memory.
fn page_of<'a>(users: impl Iterator<Item = &'a UserId>, after: Option<&UserId>, limit: i64) -> Vec<UserId> {
    let mut users: Vec<UserId> =
        users.filter(|user| after.is_none_or(|after| *user > after)).cloned().collect();
    users.sort();
    users.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    users
}

/// Up to `limit` people who are in a room, after that one, in the order of their ids.
pub(crate) async fn list_participants(
    api: &ApiState,
    caller: &Caller,
    room: RoomId,
    after: Option<&UserId>,
    limit: i64,
) -> Result<Vec<UserId>, Error> {
    require_read(api, room, caller).await?;
    rooms::list_participants(&api.pool, api.shards, room, after, limit).await
}

/// Refuses a change of members where the room has none of its own: those of a team's room are the team's, those of a
/// room of two never change, and a public room has none.
fn require_own_members(facts: &RoomSnapshot) -> Result<(), Error> {
    if facts.kind == RoomKind::Private {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Conflict, "Only a private room has members of its own."))
}

/// Whether a person is a member, every acknowledged change counted in; `None` where Postgres lacks one of them for a
/// second.
pub(super) async fn is_member(api: &ApiState, room: RoomId, user: &UserId) -> Result<Option<bool>, Error> {
    let events = [EventName::MemberAdd, EventName::MemberRemove];
    Ok(access_after(api, room, &[user], &events).await?.map(|access| access.has_member(user)))
}

/// Adds a member. Answers whether Postgres has it.
pub(crate) async fn add(
    api: &ApiState,
    caller: &Caller,
    room: RoomId,
    user: UserId,
    request: &RequestContext<'_>,
) -> Result<bool, Error> {
    require_own_members(&require_manage(api, room, caller).await?.room)?;
    if is_member(api, room, &user).await? == Some(true) {
        return Ok(true);
    }
    let event = Event::MemberAdd(Member { user, room, by: caller.user.clone() });
    Ok(idempotent_write::write_one(api, caller, &Channel::Room(room), event, request).await?.1)
}

/// Removes a member; everyone may remove themselves. Answers whether Postgres has it.
pub(crate) async fn remove(
    api: &ApiState,
    caller: &Caller,
    room: RoomId,
    user: UserId,
    request: &RequestContext<'_>,
) -> Result<bool, Error> {
    let access = if user == caller.user {
        require_read(api, room, caller).await?
    } else {
        require_manage(api, room, caller).await?
    };
    require_own_members(&access.room)?;
    let event = Event::MemberRemove(Member { user: user.clone(), room, by: caller.user.clone() });
    let is_out = is_member(api, room, &user).await? == Some(false);
    invitations::remove_and_decline(api, caller, &Channel::Room(room), event, &user, is_out, request).await
}
