//! Encodes the support dialect's answers.

use protocol::{
    error::Error,
    event::MessageDetail,
    id::{MessageId, RoomId},
};

use super::wire::{self, Answer, Done};
use crate::{
    page::{self, HTTP_MAX_BYTES, Page, PageEntry},
    queries::{
        messages::Message,
        support::{SupportRoom, SupportRoomPage},
    },
};

impl PageEntry for wire::Room {}
impl PageEntry for wire::Message {}

/// A successful answer with this text as its `message`.
pub(super) const fn answer<T>(message: &'static str, response: T) -> Answer<T> {
    Answer { success: true, message, inserted_id: None, next: None, response }
}

/// The answer to a successful write.
pub(super) const fn done(message: &'static str) -> Answer<Done> {
    answer(message, Done { is_success: true })
}

pub(super) fn room(room: SupportRoom) -> wire::Room {
    wire::Room {
        id: room.secret,
        event_id: room.event_id,
        room_room_id: format!("{}-{}", room.ordinal, room.visitor),
        user_id: room.visitor,
        org_id: room.org_id,
        portfolio_name: room.portfolio_name,
        product_name: room.product_name,
        message_data: room.last_message.unwrap_or_default(),
        is_active: room.is_active,
    }
}

/// A page of rooms, as many as fit into [`HTTP_MAX_BYTES`].
pub(super) fn rooms(listed: SupportRoomPage) -> Result<wire::Rooms, Error> {
    let SupportRoomPage { rooms, next } = listed;
    let ids: Vec<RoomId> = rooms.iter().map(|room| room.id).collect();
    let fitted = page::fit_page(rooms.into_iter().map(room), HTTP_MAX_BYTES)?;
    let last = fitted.entries.len().checked_sub(1).and_then(|last| ids.get(last)).copied();
    let next = if fitted.has_more { last } else { next };
    Ok(wire::Rooms { rooms: fitted.entries, next: next.map(|room| room.to_string()) })
}

/// A room's messages, in ascending order; of those given, the newest that fit into [`HTTP_MAX_BYTES`]. A message
/// that was sent through another dialect has no side of its own: `side` is true where the room's creator sent it.
pub(super) fn messages(
    text: &'static str,
    of: SupportRoom,
    page: Page<Message>,
) -> Result<Answer<Vec<wire::Message>>, Error> {
    let (id, creator, key) = (of.id, of.creator.clone(), of.secret.clone());
    let room = room(of);
    let message = |message: Message| {
        let (side, auther, message_type) = match message.detail {
            Some(MessageDetail::Support { side, auther, message_type }) => (side, auther, message_type),
            _ if message.author == creator => (true, "client".to_owned(), "text".to_owned()),
            _ => (false, message.author.as_str().to_owned(), "text".to_owned()),
        };
        wire::Message {
            of: wire::Room { id: message_id(id.0, message.id), message_data: message.body, ..room.clone() },
            room_id: key.clone(),
            side,
            auther,
            message_type,
            created_at: message.created_at,
        }
    };
    let page = page.map(message).fit(HTTP_MAX_BYTES)?;
    let next = page.last_if_more().map(|oldest| oldest.of.id.clone());
    let messages = page.entries.into_iter().rev().collect();
    Ok(Answer { next, ..answer(text, messages) })
}

/// A message's `_id`: its room's id as ten hexadecimal digits, then its own as fourteen.
fn message_id(room: u64, MessageId(message): MessageId) -> String {
    format!("{room:010x}{message:014x}")
}

#[cfg(test)]
mod tests {
    use protocol::id::MAX_ID;

    use super::*;

    #[test]
    fn message_ids_are_unique_and_of_one_length() {
        assert_eq!(message_id(42, MessageId(1234)), "000000002a000000000004d2");
        assert_eq!(message_id((1 << 40) - 1, MessageId(MAX_ID)).len(), 24);
        assert_ne!(message_id(1, MessageId(2)), message_id(2, MessageId(1)));
    }
}
