//! Who may enter a private room, and who is in a room.

use shared::{
    error::{Error, ErrorCode},
    event::{Event, EventName, Member, RoomKind},
    id::{RoomId, UserId},
    rules::Caller,
    subject::Channel,
};
use tokio::time::Instant;

use super::{control, current, invitations, manage, request::Request, see};
use crate::{
    queries::{facts::Facts, rooms},
    state::Shared,
};

/// Who may enter a room, where not everyone may.
pub(crate) async fn list(api: &Shared, caller: &Caller, room: RoomId) -> Result<Vec<UserId>, Error> {
    let facts = api.rights.read(room, Instant::now()).await?;
    if !facts.may_enter(caller) {
        return Err(Error::not_found());
    }
    let mut users: Vec<UserId> = match facts.kind {
        kind if kind.is_open() => vec![],
        _ => facts.members.iter().cloned().collect(),
    };
    users.sort();
    Ok(users)
}

/// Up to `limit` of who is in a room, after that one, in the order of their ids.
pub(crate) async fn present(
    api: &Shared,
    caller: &Caller,
    room: RoomId,
    after: Option<&UserId>,
    limit: i64,
) -> Result<Vec<UserId>, Error> {
    see(api, room, caller).await?;
    rooms::present(&api.pool, api.shards, room, after, limit).await
}

/// Those of a team's room belong to the team, those of a match never change, and a public room has none.
fn has_own(facts: &Facts) -> Result<(), Error> {
    if facts.kind == RoomKind::Private {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Conflict, "Only a private room has members of its own."))
}

/// Whether a person is a member by all that was acknowledged; `None` where Postgres has not got it in time.
pub(super) async fn is_member(api: &Shared, room: RoomId, user: &UserId) -> Result<Option<bool>, Error> {
    let events = [EventName::MemberAdd, EventName::MemberRemove];
    Ok(current(api, room, &events).await?.map(|facts| facts.members.contains(user)))
}

/// Lets a person in. Answers whether Postgres has it.
pub(crate) async fn add(
    api: &Shared,
    caller: &Caller,
    room: RoomId,
    user: UserId,
    request: &Request<'_>,
) -> Result<bool, Error> {
    has_own(&*manage(api, room, caller).await?)?;
    if is_member(api, room, &user).await? == Some(true) {
        return Ok(true);
    }
    let event = Event::MemberAdd(Member { user, room, by: caller.user.clone() });
    Ok(control::write(api, caller, &Channel::Room(room), event, request).await?.1)
}

/// Puts a person out; everyone may do that to himself. Answers whether Postgres has it.
pub(crate) async fn remove(
    api: &Shared,
    caller: &Caller,
    room: RoomId,
    user: UserId,
    request: &Request<'_>,
) -> Result<bool, Error> {
    let facts =
        if user == caller.user { see(api, room, caller).await? } else { manage(api, room, caller).await? };
    has_own(&facts)?;
    let event = Event::MemberRemove(Member { user: user.clone(), room, by: caller.user.clone() });
    let is_out = is_member(api, room, &user).await? == Some(false);
    invitations::put_out(api, caller, &Channel::Room(room), event, &user, is_out, request).await
}
