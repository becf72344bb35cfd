//! Holds the commands that dialects call. Only commands decide whether a request is allowed.

mod contacts;
pub(crate) mod direct;
mod durable_keys;
mod idempotent_write;
pub(crate) mod invitations;
mod log_write;
pub(crate) mod match_detail;
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
use service::random;
use tokio::time::Instant;

use crate::{
    access::{RoomAccess, RoomSnapshot},
    commands::state::CommandState,
};

/// Returns the key under which a request is stored once: the client's own, or a random one.
pub(crate) fn request_key(given: Option<&str>) -> String {
    given.map_or_else(
        || {
            let fresh = random::unique_id();
            // The prefix keeps it apart from clients' keys, which are visible ASCII.
            format!("\u{1}{fresh:032x}")
        },
        str::to_owned,
    )
}

/// Requires that the caller may see and read the room; answers 404 if not, as for a room that does not exist.
pub(crate) async fn require_read(
    api: &CommandState,
    room: RoomId,
    caller: &Caller,
) -> Result<RoomAccess, Error> {
    let access = api.access.room_access(room, &[&caller.user], |access| access.can_join(caller)).await?;
    if access.can_join(caller) { Ok(access) } else { Err(Error::not_found()) }
}

/// Requires that the caller may see, join and write in the room (404 if not), and that it is open (409 if not).
pub(crate) async fn require_join(
    api: &CommandState,
    room: RoomId,
    caller: &Caller,
) -> Result<RoomAccess, Error> {
    let may_write = |access: &RoomAccess| !access.room.is_closed && access.can_join(caller);
    let access = api.access.room_access(room, &[&caller.user], may_write).await?;
    if !access.can_join(caller) {
        return Err(Error::not_found());
    }
    require_open(&access.room)?;
    Ok(access)
}

/// Requires that a caller whose socket has joined the room may still write there.
///
/// The fan-out node removes a socket from the room when it receives the event that ends the caller's access, so only
/// a closing or a narrowing of the room is checked here. If Postgres does not answer and no such event was received,
/// the write is allowed.
pub(crate) async fn require_still_joined(
    api: &CommandState,
    room: RoomId,
    caller: &Caller,
) -> Result<(), Error> {
    let may_write = |access: &RoomAccess| !access.room.is_closed && access.can_join(caller);
    let access = api.access.room_access_since_joined(room, &caller.user, may_write).await?;
    let Some(access) = access else { return Ok(()) };
    if !access.can_join(caller) {
        return Err(Error::not_found());
    }
    require_open(&access.room)
}

/// Requires that the caller may change the room and its members (404 or 403 if not), and that it is open (409 if
/// not).
pub(crate) async fn require_manage(
    api: &CommandState,
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

/// Waits up to one second until Postgres has the last acknowledged of `events` in the room's channel, then reads the
/// room and which of `people` are members.
///
/// Returns `None` if Postgres lags or does not answer. A command that finds the requested state there appends
/// nothing.
pub(crate) async fn access_after(
    api: &CommandState,
    room: RoomId,
    people: &[&UserId],
    events: &[EventName],
) -> Result<Option<RoomAccess>, Error> {
    if !api.wait_until_events_applied(&Channel::Room(room), events).await? {
        return Ok(None);
    }
    match api.access.load(room, people, Instant::now()).await {
        Ok(access) => Ok(Some(access)),
        // The caller then appends the event without this check: a second event of the same content changes nothing.
        Err(error) if error.code == ErrorCode::Unavailable => Ok(None),
        Err(error) => Err(error),
    }
}

/// Requires that the room is not closed; answers 409 if it is.
fn require_open(snapshot: &RoomSnapshot) -> Result<(), Error> {
    if snapshot.is_closed { Err(Error::new(ErrorCode::Conflict, "This room is closed.")) } else { Ok(()) }
}
