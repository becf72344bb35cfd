//! Decodes the requests of `room-service`, and the cursors of the support dialect.

use protocol::{
    error::Error,
    id::{MAX_ID, MessageId, RoomId},
};

use super::wire::ServiceQuery;
use crate::{commands::support, dialects::json};

/// Merges the fields of body and query; the body's come first.
pub(super) fn merge_query(body: ServiceQuery, query: ServiceQuery) -> ServiceQuery {
    ServiceQuery {
        kind: body.kind.or(query.kind),
        room_id: body.room_id.or(query.room_id),
        is_active: body.is_active.or(query.is_active),
        before: body.before.or(query.before),
    }
}

/// The room's key, which must be given.
pub(super) fn require_room_key(query: &ServiceQuery) -> Result<&str, Error> {
    query.room_id.as_deref().ok_or_else(|| Error::bad_request("room_id: must be given."))
}

/// Parses a message's `_id` of 24 hexadecimal digits: ten for the room's id, fourteen for the message's.
pub(super) fn parse_message_id(text: &str) -> Result<(RoomId, MessageId), Error> {
    let number = |digits: &str| u64::from_str_radix(digits, 16).ok().filter(|number| *number <= MAX_ID);
    let read = || {
        let (room, message) = text.split_at_checked(10).filter(|_| text.len() == 24)?;
        Some((RoomId(number(room)?), MessageId(number(message)?)))
    };
    read().ok_or_else(support::foreign_message_error)
}

/// Parses the cursor of the room list: the list continues with the rooms before this one.
pub(super) fn parse_cursor(text: &str) -> Result<RoomId, Error> {
    json::require_cursor(text.parse().ok())
}

/// The key of the room to close; `is_active`, where given, must be `false`.
pub(super) fn require_close(query: &ServiceQuery) -> Result<&str, Error> {
    if query.is_active == Some(true) {
        return Err(Error::bad_request("is_active: must be false."));
    }
    require_room_key(query)
}

/// Parses bytes as each body and cursor of this dialect; for property tests and fuzzing.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    use json::assert_parsed_or_refused as read;
    read::<super::wire::NewRoom>(bytes);
    read::<super::wire::NewMessage>(bytes);
    read::<ServiceQuery>(bytes);
    let text = String::from_utf8_lossy(bytes);
    let _ = (parse_message_id(&text), parse_cursor(&text));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialects::json::{any, parse_object};

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(bytes in any::bytes()) {
            read_any(&bytes);
            let body = parse_object::<ServiceQuery>(&bytes).unwrap_or_default();
            let body_room_id = body.room_id.clone();
            let query = merge_query(body, ServiceQuery { room_id: Some("key".to_owned()), ..ServiceQuery::default() });
            prop_assert_eq!(require_room_key(&query).expect("the query says it"), body_room_id.as_deref().unwrap_or("key"));
            prop_assert_eq!(require_close(&query).is_err(), query.is_active == Some(true));
        }
    }
}
