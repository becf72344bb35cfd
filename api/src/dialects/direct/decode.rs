//! Reads where a list of rooms goes on.

use protocol::error::Error;

use crate::{
    dialects::json,
    queries::direct::{DirectRoom, RoomCursor},
};

/// A cursor for what comes after a page: its rooms but for the current one, in their order.
pub(super) fn encode_cursor(rooms: &[DirectRoom]) -> String {
    let last = rooms.iter().rev().find(|room| !room.is_current);
    json::encode_cursor(&last.map(|room| format!("{} {}", room.activity, room.id)).unwrap_or_default())
}

/// A cursor that was given out.
pub(super) fn decode_cursor(text: &str) -> Result<RoomCursor, Error> {
    json::decode_cursor(text, |text| {
        if text.is_empty() {
            return Some(None);
        }
        let (moment, room) = text.split_once(' ')?;
        Some(Some((json::parse_timestamp(moment)?, room.parse().ok()?)))
    })
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use protocol::{clock::Timestamp, id::RoomId};

    use super::*;

    fn room(id: u64, is_current: bool) -> DirectRoom {
        DirectRoom {
            id: RoomId(id),
            pair: vec![],
            creator: "ann".parse().expect("an id"),
            activity: Timestamp::now(),
            is_active: true,
            is_current,
            messages: [].into(),
        }
    }

    #[test]
    fn cursor_names_the_last_room_but_for_the_current_one() {
        let rooms = [room(1, true), room(2, false), room(3, false)];
        assert_eq!(decode_cursor(&encode_cursor(&rooms)), Ok(Some((rooms[2].activity, RoomId(3)))));
        assert_eq!(decode_cursor(&encode_cursor(&rooms[..1])), Ok(None), "all but the current one");
    }

    proptest! {
        #[test]
        fn any_cursor_is_read_or_refused(text in ".*") {
            let _ = (decode_cursor(&text), decode_cursor(&URL_SAFE_NO_PAD.encode(&text)));
        }
    }
}
