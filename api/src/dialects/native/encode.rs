//! Writing what clients are answered.

use shared::{event::RoomKind, id::RoomId};

use super::wire;
use crate::{
    commands::messages::Sent,
    queries::{
        messages::Message,
        rooms::{Present, Room},
        teams::Team,
    },
};

/// `false` only where reads can't see it yet.
pub(super) fn applied(applied: bool) -> Option<bool> {
    (!applied).then_some(false)
}

/// A room.
pub(super) fn room(room: Room, is_applied: bool) -> wire::Room {
    let (participants, count) = match room.present {
        Present::Named(people) => (Some(people), None),
        Present::Counted(count) => (None, Some(count)),
        Present::Unknown => (None, None),
    };
    wire::Room {
        id: room.id,
        name: room.name,
        description: room.description,
        private: room.kind != RoomKind::Public,
        users: room.users,
        participants,
        count,
        team: room.team,
        user: room.creator,
        kind: room.kind.as_str(),
        active: room.active,
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

/// A team.
pub(super) fn team(team: Team, is_applied: bool) -> wire::Team {
    wire::Team {
        id: team.id,
        name: team.name,
        user: team.creator,
        users: team.users,
        created_at: team.created_at,
        applied: applied(is_applied),
    }
}
