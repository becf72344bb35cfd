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
use crate::access::{RoomSnapshot, membership::Membership};
use crate::{
    commands::state::CommandState,
    page::Page,
    queries::{members, rooms},
};

/// Returns up to `limit` people who may join a room that is not open to everyone, with ids greater than `after`, in
/// order of id. Of an open room the list is empty.
pub(crate) async fn list(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    after: Option<&UserId>,
    limit: i64,
) -> Result<Page<UserId>, Error> {
    let access = api.access.load(room, &[&caller.user], Instant::now()).await?;
    if !access.can_join(caller) {
        return Err(Error::not_found());
    }
    let RoomSnapshot { kind, team, users, is_applied, .. } = &*access.room;
    Page::read(limit, async |limit| match (kind, team) {
        (kind, _) if kind.is_open() => Ok(vec![]),
        (kind, _) if kind.is_pair() => Ok(page_of(users.named.iter(), after, limit)),
        (_, _) if !is_applied => Ok(page_of(access.known_members(), after, limit)),
        (_, Some(team)) => members::list_team_members(&api.pool, api.shards, *team, after, limit).await,
        (_, None) => members::list_room_members(&api.pool, api.shards, room, after, limit).await,
    })
    .await
}

/// Returns a page of people who are in memory, with ids greater than `after`.
fn page_of<'a>(users: impl Iterator<Item = &'a UserId>, after: Option<&UserId>, limit: i64) -> Vec<UserId> {
    let mut users: Vec<UserId> =
        users.filter(|user| after.is_none_or(|after| *user > after)).cloned().collect();
    users.sort();
    users.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    users
}

/// Returns up to `limit` people who are in a room now, with ids greater than `after`, in order of id.
pub(crate) async fn list_participants(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    after: Option<&UserId>,
    limit: i64,
) -> Result<Page<UserId>, Error> {
    require_read(api, room, caller).await?;
    Page::read(limit, async |limit| rooms::list_participants(&api.pool, api.shards, room, after, limit).await)
        .await
}

/// Requires a private room; answers 409 for others: the members of a team's room are the team's, those of a room of
/// two people never change, and an open room has none.
fn require_own_members(snapshot: &RoomSnapshot) -> Result<(), Error> {
    if snapshot.kind == RoomKind::Private {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Conflict, "Only a private room has members of its own."))
}

/// Returns whether a person is a member of the room; waits up to one second until Postgres has all acknowledged
/// events.
pub(super) async fn membership(api: &CommandState, room: RoomId, user: &UserId) -> Result<Membership, Error> {
    let events = [EventName::MemberAdd, EventName::MemberRemove];
    let access = access_after(api, room, &[user], &events).await?;
    Ok(access.map_or(Membership::Unknown, |access| access.has_member(user).into()))
}

/// Adds a member. Returns whether Postgres has it.
pub(crate) async fn add(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    user: UserId,
    request: &RequestContext<'_>,
) -> Result<bool, Error> {
    require_own_members(&require_manage(api, room, caller).await?.room)?;
    if membership(api, room, &user).await? == Membership::Member {
        return Ok(true);
    }
    let event = Event::MemberAdd(Member { user, room, by: caller.user.clone() });
    Ok(idempotent_write::write_one(api, caller, &Channel::Room(room), event, request).await?.1)
}

/// Removes a member; members may remove themselves. Returns whether Postgres has it.
pub(crate) async fn remove(
    api: &CommandState,
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
    let is_out = membership(api, room, &user).await? == Membership::NotAMember;
    invitations::remove_and_decline(api, caller, &Channel::Room(room), event, &user, is_out, request).await
}
