//! Encodes the direct dialect's answers.

use std::collections::HashMap;

use protocol::{
    clock::Timestamp,
    id::{MessageId, UserId},
};

use super::{decode, wire};
use crate::{
    commands::direct::{DirectRoomPage, DirectRoomView},
    commands::match_detail::PersonView,
    page::HTTP_MAX_BYTES,
    queries::{
        direct::{DirectMessage, DirectRoom},
        people::PersonDetails,
    },
};

/// A single room. `low` is the balance below which `is_low_account` is true.
pub(super) fn room_view(view: DirectRoomView, low: f64) -> wire::Room {
    room(view.room, &view.reader.user, is_low_account(&view.reader, low))
}

/// The reader's rooms, with as many rooms and messages as fit into [`HTTP_MAX_BYTES`].
pub(super) fn room_list(found: DirectRoomPage, reader: &UserId, low: f64) -> wire::Rooms {
    let DirectRoomPage { rooms, people, has_more } =
        super::room_list_size::fit_room_list(found, reader, HTTP_MAX_BYTES);
    let contacts: Vec<PersonDetails> = rooms.iter().map(|room| contact_of(room, &people, reader)).collect();
    let is_low = people.get(reader).is_some_and(|reader| is_low_account(reader, low));
    let online = contacts.iter().filter(|contact| contact.is_online);
    wire::Rooms {
        next: has_more.then(|| decode::encode_cursor(&rooms)),
        online_ids: online.map(|contact| contact.user.to_value()).collect(),
        contacts_ids: contacts.iter().map(|contact| contact.user.to_value()).collect(),
        contact_users: contacts.iter().map(|one| (one.user.clone(), PersonView::from(one))).collect(),
        current_room: rooms.iter().find(|room| room.is_current).map(|room| room.id),
        room_ids: rooms.iter().map(|room| room.id).collect(),
        rooms: rooms.into_iter().map(|found| (found.id, room(found, reader, is_low))).collect(),
    }
}

/// The profile of the other person in a room. Anyone can create a room with anyone, so email and balance are
/// only included while the room is active.
fn contact_of(room: &DirectRoom, people: &HashMap<UserId, PersonDetails>, reader: &UserId) -> PersonDetails {
    let other = room.other_person(reader);
    let mut contact = people.get(other).cloned().unwrap_or_else(|| PersonDetails::unknown(other));
    if !room.is_active {
        (contact.person.email, contact.person.account) = (None, None);
    }
    contact
}

fn room(found: DirectRoom, reader: &UserId, is_low_account: bool) -> wire::Room {
    wire::Room {
        abonent_id: found.other_person(reader).to_value(),
        id: found.id,
        is_current: found.is_current,
        is_active: found.is_active,
        is_low_account,
        activity: unix_seconds(found.activity),
        messages: found.messages.into_iter().map(|(id, stored)| (id, message(id, stored))).collect(),
    }
}

pub(super) fn message(id: MessageId, stored: DirectMessage) -> wire::Message {
    wire::Message {
        id,
        message: stored.body,
        author_id: stored.author.to_value(),
        created: format_created(stored.created_at),
        is_readed: stored.is_read,
    }
}

/// A timestamp in the format of the dialect's document: `2019-12-02 14:08:13.574211+00:00`.
fn format_created(moment: Timestamp) -> String {
    moment.to_string().replace('T', " ").replace('Z', "+00:00")
}

/// Seconds since 1970, with microseconds as the fraction.
#[expect(clippy::cast_precision_loss, reason = "exact for 285 years since 1970")]
fn unix_seconds(moment: Timestamp) -> f64 {
    moment.unix_us() as f64 / 1_000_000.0
}

/// Whether the reader's balance is below `low`. False where the balance is unknown or not a number.
fn is_low_account(reader: &PersonDetails, low: f64) -> bool {
    let account = reader.person.account.as_deref().and_then(|account| account.trim().parse::<f64>().ok());
    account.is_some_and(|account| account < low)
}

#[cfg(test)]
mod tests {
    use protocol::event::Person;

    use super::*;

    #[test]
    fn timestamps_have_the_form_of_the_direct_document() {
        let moment: Timestamp = serde_json::from_str("\"2019-12-02T14:08:13.574211Z\"").expect("a moment");
        assert_eq!(format_created(moment), "2019-12-02 14:08:13.574211+00:00");
        assert_eq!(serde_json::json!(unix_seconds(moment)).to_string(), "1575295693.574211");
    }

    #[test]
    fn account_is_low_only_below_the_bound() {
        let with = |account: Option<&str>| PersonDetails {
            person: Person { account: account.map(str::to_owned), ..Person::default() },
            ..PersonDetails::unknown(&"7".parse().expect("an id"))
        };
        for (account, expected) in [
            (Some("9.99"), true),
            (Some("-1"), true),
            (Some("10"), false),
            (Some("much"), false),
            (None, false),
        ] {
            assert_eq!(is_low_account(&with(account), 10.0), expected, "{account:?}");
        }
    }
}
