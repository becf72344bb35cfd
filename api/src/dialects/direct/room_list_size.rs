//! Fits the room list into the maximum size of an answer.
//!
//! Clients of this dialect do not know about pages, so the most useful part comes first: the current room and the
//! rooms with the latest activity, each with its last message. The remaining bytes go to older messages.

use protocol::id::UserId;

use super::encode;
use crate::{
    commands::direct::DirectRoomPage,
    commands::match_detail::PersonView,
    page::json_bytes,
    queries::{direct::DirectRoom, people::PersonDetails},
};

/// Bytes counted for a room beside its contact and messages: its keys, and its entries in the lists of ids.
const ROOM_BYTES: usize = 512;

/// Keeps as many rooms, and of each as many of its newest messages, as fit into `max_bytes`. Every room that is
/// kept has its last message.
pub(super) fn fit_room_list(found: DirectRoomPage, reader: &UserId, max_bytes: usize) -> DirectRoomPage {
    let DirectRoomPage { rooms, people, mut has_more } = found;
    let mut bytes_left = max_bytes;
    let contact_bytes = |room: &DirectRoom| {
        let other = room.other_person(reader);
        people.get(other).map_or(ROOM_BYTES, |known: &PersonDetails| json_bytes(&PersonView::from(known)))
    };
    let mut fitting: Vec<(DirectRoom, DirectRoom)> = Vec::new();
    for mut room in rooms {
        let mut older = room.clone();
        room.messages = older.messages.pop_last().into_iter().collect();
        let bytes = ROOM_BYTES + contact_bytes(&room) + messages_bytes(&room);
        if bytes > bytes_left {
            has_more = true;
            break;
        }
        bytes_left -= bytes;
        fitting.push((room, older));
    }
    let rooms = fitting.into_iter().map(|(mut room, older)| {
        for (id, stored) in older.messages.into_iter().rev() {
            let bytes = message_bytes(&encode::message(id, stored.clone()));
            if bytes > bytes_left {
                break;
            }
            bytes_left -= bytes;
            room.messages.insert(id, stored);
        }
        room
    });
    DirectRoomPage { rooms: rooms.collect(), people, has_more }
}

fn messages_bytes(room: &DirectRoom) -> usize {
    room.messages.iter().map(|(id, stored)| message_bytes(&encode::message(*id, stored.clone()))).sum()
}

fn message_bytes(message: &super::wire::Message) -> usize {
    // 24 more for its key in the object, the colon and the comma.
    json_bytes(message) + 24
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use protocol::{
        clock::Timestamp,
        event::Person,
        id::{MessageId, RoomId},
    };

    use super::*;
    use crate::queries::direct::DirectMessage;

    fn user(name: &str) -> UserId {
        name.parse().expect("an id")
    }

    fn room(id: u64, text: &str, messages: u64) -> DirectRoom {
        let stored = DirectMessage {
            author: user("ann"),
            body: text.to_owned(),
            created_at: Timestamp::now(),
            is_read: false,
        };
        DirectRoom {
            id: RoomId(id),
            pair: vec![user("ann"), user(&format!("contact-{id}"))],
            creator: user("ann"),
            activity: Timestamp::now(),
            is_active: true,
            is_current: id == 1,
            messages: (1..=messages).map(|message| (MessageId(message), stored.clone())).collect(),
        }
    }

    #[test]
    fn room_list_of_long_texts_keeps_every_last_message_below_the_bound() {
        let max_bytes = 1 << 20;
        for text in ["ж".repeat(16_384), "\u{1}".repeat(16_384), "short".to_owned()] {
            let rooms: Vec<DirectRoom> = (1..=8).map(|id| room(id, &text, 20)).collect();
            let fitted = fit_room_list(
                DirectRoomPage { rooms, people: HashMap::new(), has_more: false },
                &user("ann"),
                max_bytes,
            );
            let counts: Vec<usize> = fitted.rooms.iter().map(|room| room.messages.len()).collect();
            assert!(counts.iter().all(|count| *count >= 1), "{counts:?}");
            assert!(fitted.rooms.iter().all(|room| room.messages.contains_key(&MessageId(20))));
            assert_eq!(text == "short", counts == [20; 8], "{counts:?}");
            let wire = encode::room_list(fitted, &user("ann"), 0.0);
            assert!(json_bytes(&wire) <= max_bytes);
        }
    }

    #[test]
    fn room_list_ends_before_a_contact_whose_profile_does_not_fit() {
        let rooms: Vec<DirectRoom> = (1..=3).map(|id| room(id, "short", 1)).collect();
        let long = Person { username: Some("\u{1}".repeat(2_000)), ..Person::default() };
        let contact = |id| {
            let known = user(&format!("contact-{id}"));
            (known.clone(), PersonDetails { person: long.clone(), ..PersonDetails::unknown(&known) })
        };
        let people: HashMap<_, _> = [contact(1), contact(2), contact(3)].into();
        let fitted = fit_room_list(DirectRoomPage { rooms, people, has_more: false }, &user("ann"), 30_000);
        assert_eq!((fitted.rooms.len(), fitted.has_more), (2, true));
    }
}
