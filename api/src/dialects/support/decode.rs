//! Reading what clients ask of `room-service`.

use shared::error::Error;

use super::wire::Asked;

/// What is asked for: what the body does not say, the query may.
pub(super) fn either(body: Asked, query: Asked) -> Asked {
    Asked {
        kind: body.kind.or(query.kind),
        room_id: body.room_id.or(query.room_id),
        is_active: body.is_active.or(query.is_active),
    }
}

/// The key of the room that is asked about.
pub(super) fn room(asked: &Asked) -> Result<&str, Error> {
    asked.room_id.as_deref().ok_or_else(|| Error::bad_request("room_id: must be given."))
}

/// The key of the room to close.
pub(super) fn to_close(asked: &Asked) -> Result<&str, Error> {
    if asked.is_active == Some(true) {
        return Err(Error::bad_request("is_active: must be false."));
    }
    room(asked)
}
