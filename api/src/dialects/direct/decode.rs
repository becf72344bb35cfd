//! Reading where a list of rooms goes on.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use shared::{clock::Timestamp, error::Error};

use crate::queries::direct::{After, Direct};

/// A cursor for what comes after a page: its rooms but for the current one, in their order.
pub(super) fn write_cursor(rooms: &[Direct]) -> String {
    let last = rooms.iter().rev().find(|room| !room.is_current);
    URL_SAFE_NO_PAD.encode(last.map(|room| format!("{} {}", room.activity, room.id)).unwrap_or_default())
}

/// A cursor that was given out.
pub(super) fn cursor(text: &str) -> Result<After, Error> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        if text.is_empty() {
            return Some(None);
        }
        let (moment, room) = text.split_once(' ')?;
        let moment: Timestamp = serde_json::from_value(moment.into()).ok()?;
        Some(Some((moment, room.parse().ok()?)))
    };
    read().ok_or_else(|| Error::bad_request("cursor: must be one that was given as `next`."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::id::RoomId;

    use super::*;

    fn room(id: u64, is_current: bool) -> Direct {
        Direct {
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
        assert_eq!(cursor(&write_cursor(&rooms)), Ok(Some((rooms[2].activity, RoomId(3)))));
        assert_eq!(cursor(&write_cursor(&rooms[..1])), Ok(None), "all but the current one");
    }

    proptest! {
        #[test]
        fn any_cursor_is_read_or_refused(text in ".*") {
            let _ = (cursor(&text), cursor(&URL_SAFE_NO_PAD.encode(&text)));
        }
    }
}
