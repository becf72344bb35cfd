//! Encodes and decodes the cursor of the room list: last activity and id of the last room of a page.

use protocol::error::Error;

use crate::{
    dialects::json,
    queries::direct::{DirectRoom, RoomCursor},
};

/// The cursor for the rooms after this page. It skips the current room, which every first page begins with,
/// whatever its activity; it is empty for a page without other rooms.
pub(super) fn encode_cursor(rooms: &[DirectRoom]) -> String {
    let last = rooms.iter().rev().find(|room| !room.is_current);
    json::encode_cursor(&last.map(|room| format!("{} {}", room.activity, room.id)).unwrap_or_default())
}

/// Parses a cursor that [`encode_cursor`] made; `None` inside means: from the first room.
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
    fn room_cursor_names_the_last_room_except_the_current_one() {
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
