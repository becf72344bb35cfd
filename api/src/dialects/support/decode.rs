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

/// Reads bytes as all that clients send here.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    use crate::dialects::read::is_read_or_refused as read;
    read::<super::wire::NewRoom>(bytes);
    read::<super::wire::NewMessage>(bytes);
    read::<Asked>(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialects::read::{any, json};

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(bytes in any::bytes()) {
            read_any(&bytes);
            let body = json::<Asked>(&bytes).unwrap_or_default();
            let said = body.room_id.clone();
            let asked = either(body, Asked { room_id: Some("key".to_owned()), ..Asked::default() });
            prop_assert_eq!(room(&asked).expect("the query says it"), said.as_deref().unwrap_or("key"));
            prop_assert_eq!(to_close(&asked).is_err(), asked.is_active == Some(true));
        }
    }
}
