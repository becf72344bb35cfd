//! Holds the commands that dialects call. Only commands decide who may do what.

mod contacts;
pub(crate) mod direct;
mod durable_keys;
mod idempotent_write;
pub(crate) mod invitations;
mod log_write;
pub(crate) mod match_rooms;
pub(crate) mod members;
mod message_state;
pub(crate) mod messages;
pub(crate) mod pair_rooms;
pub(crate) mod people;
pub(crate) mod presence;
pub(crate) mod read_marks;
pub(crate) mod request_context;
pub(crate) mod rooms;
pub(crate) mod rpc_handlers;
pub(crate) mod search;
pub(crate) mod state;
pub(crate) mod support;
pub(crate) mod teams;
pub(crate) mod topics;
mod unique_rooms;

use protocol::{
    caller::Caller,
    error::{Error, ErrorCode},
    event::EventName,
    id::{RoomId, UserId},
    subject::Channel,
};
use tokio::time::Instant;

use crate::{
    access::{RoomAccess, RoomSnapshot},
    commands::state::ApiState,
};

/// The key under which a request is stored once: the client's own, or a new one.
pub(crate) fn request_key(given: Option<&str>) -> String {
    given.map_or_else(
        || {
            let fresh: u128 = rand::random();
            // No key of a client begins so: theirs are visible ASCII.
            format!("\u{1}{fresh:032x}")
        },
        str::to_owned,
    )
}

/// Requires that the caller may see the room and read there. A stranger is answered that it does not exist.
pub(crate) async fn require_read(api: &ApiState, room: RoomId, caller: &Caller) -> Result<RoomAccess, Error> {
    let access = api.access.room_access(room, &[&caller.user], |access| access.can_join(caller)).await?;
    if access.can_join(caller) { Ok(access) } else { Err(Error::not_found()) }
}

/// Requires that the caller may see the room, join and write there, and that it is open.
pub(crate) async fn require_join(api: &ApiState, room: RoomId, caller: &Caller) -> Result<RoomAccess, Error> {
    let may_write = |access: &RoomAccess| !access.room.is_closed && access.can_join(caller);
    let access = api.access.room_access(room, &[&caller.user], may_write).await?;
    if !access.can_join(caller) {
        return Err(Error::not_found());
    }
    require_open(&access.room)?;
    Ok(access)
}

/// The caller's socket was let into the room, and has not been put out by its node: it may write there, unless
/// the room was closed or made narrower since. Where Postgres does not answer and nothing of that kind was heard,
/// it may.
pub(crate) async fn require_still_joined(api: &ApiState, room: RoomId, caller: &Caller) -> Result<(), Error> {
    let may_write = |access: &RoomAccess| !access.room.is_closed && access.can_join(caller);
    let access = api.access.room_access_since_joined(room, &caller.user, may_write).await?;
    let Some(access) = access else { return Ok(()) };
    if !access.can_join(caller) {
        return Err(Error::not_found());
    }
    require_open(&access.room)
}

/// Requires that the caller may change the room and its members, and that it is open.
pub(crate) async fn require_manage(
    api: &ApiState,
    room: RoomId,
    caller: &Caller,
) -> Result<RoomAccess, Error> {
    let may_change = |access: &RoomAccess| !access.room.is_closed && access.can_manage(caller);
    let access = api.access.room_access(room, &[&caller.user], may_change).await?;
    if !access.can_join(caller) {
        return Err(Error::not_found());
    }
    if !access.can_manage(caller) {
        return Err(Error::forbidden());
    }
    require_open(&access.room)?;
    Ok(access)
}

/// What Postgres has of a room and these people once it has the last of these events that was acknowledged there;
/// `None` where it has not, a second later. A command that finds its fact there is done, and appends nothing.
pub(crate) async fn access_after(
    api: &ApiState,
    room: RoomId,
    people: &[&UserId],
    events: &[EventName],
) -> Result<Option<RoomAccess>, Error> {
    if !api.wait_until_events_applied(&Channel::Room(room), events).await? {
        return Ok(None);
    }
    match api.access.load(room, people, Instant::now()).await {
        Ok(access) => Ok(Some(access)),
        // It is appended all the same: the fact twice does no harm.
        Err(error) if error.code == ErrorCode::Unavailable => Ok(None),
        Err(error) => Err(error),
    }
}

/// Requires that the room is not closed.
fn require_open(facts: &RoomSnapshot) -> Result<(), Error> {
    if facts.is_closed { Err(Error::new(ErrorCode::Conflict, "This room is closed.")) } else { Ok(()) }
}
