//! Writing what clients are answered.

use shared::event::RoomKind;

use super::wire;
use crate::{
    commands::messages::Sent,
    queries::{messages::Message, rooms::Room},
};
use shared::id::RoomId;

/// `false` only where reads can't see it yet.
pub(super) fn applied(applied: bool) -> Option<bool> {
    (!applied).then_some(false)
}

/// A room. Who may enter is nobody's question where everyone may.
pub(super) fn room(room: Room, is_applied: bool) -> wire::Room {
    let private = room.kind == RoomKind::Private;
    wire::Room {
        id: room.id,
        name: room.name,
        description: room.description,
        private,
        users: if private { room.users } else { vec![] },
        participants: room.participants,
        team: room.team,
        user: room.creator,
        kind: room.kind.as_str(),
        active: true,
        created_at: room.created_at,
        activity: room.activity,
        unread: room.unread,
        applied: applied(is_applied),
    }
}

/// A message that was sent.
pub(super) fn sent(sent: Sent) -> wire::Message {
    wire::Message {
        id: sent.id,
        room: sent.message.room,
        user: sent.message.user,
        message: sent.message.message,
        created_at: sent.message.created_at,
        edited_at: None,
        client_id: sent.message.client_id,
    }
}

/// A message of a room's history.
pub(super) fn message(room: RoomId, message: Message) -> wire::Message {
    wire::Message {
        id: message.id,
        room,
        user: message.author,
        message: message.body,
        created_at: message.created_at,
        edited_at: message.edited_at,
        client_id: message.client_id,
    }
}
