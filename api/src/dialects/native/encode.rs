//! Encodes the native dialect's answers.

use protocol::{event, id::RoomId};

use super::wire;
use crate::{
    commands::messages::SentMessage,
    queries::{
        invitations::StoredInvitation,
        members::Members,
        messages::{ChangedMessage, Message},
        people::PersonDetails,
        rooms::{PresentPeople, RoomView},
        teams::TeamView,
    },
};

/// The `applied` of an answer: `Some(false)` while reads can't see the change yet, else left out.
pub(super) fn applied_if_not(applied: bool) -> Option<bool> {
    (!applied).then_some(false)
}

/// The number of members, where the list does not name all of them.
fn count_if_truncated(members: &Members) -> Option<u64> {
    (members.count > members.named.len() as u64).then_some(members.count)
}

pub(super) fn room(room: RoomView, is_applied: bool) -> wire::Room {
    let (participants, count) = match room.participants {
        PresentPeople::Named(people) => (Some(Some(people)), None),
        PresentPeople::Counted(count) => (Some(None), Some(count)),
        PresentPeople::Unknown => (Some(None), None),
    };
    wire::Room {
        id: room.id,
        name: room.name,
        description: room.description,
        private: !room.kind.is_open(),
        users_count: count_if_truncated(&room.users),
        users: Some(room.users.named),
        participants,
        count,
        team: room.team,
        user: room.creator,
        kind: room.kind,
        active: room.is_active,
        created_at: room.created_at,
        activity: room.activity,
        unread: room.unread,
        applied: applied_if_not(is_applied),
    }
}

/// The answer to sending a message.
pub(super) fn sent(sent: SentMessage) -> wire::Message {
    wire::Message {
        id: sent.id,
        room: sent.message.room,
        user: sent.message.user,
        message: sent.message.message,
        created_at: sent.message.created_at,
        edited_at: None,
        client_id: sent.message.client_id,
        // Only pushes and reads have it.
        detail: None,
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
        detail: message.detail,
    }
}

/// An entry of a room's changes: a message that is new, or was edited or deleted.
pub(super) fn changed(room: RoomId, changed: ChangedMessage) -> wire::Changed {
    wire::Changed {
        message: message(room, changed.message),
        changed: changed.last_event,
        deleted_at: changed.deleted_at,
    }
}

pub(super) fn invitation(invitation: StoredInvitation, is_applied: bool) -> wire::Invitation {
    let StoredInvitation { id, invitation, accepted } = invitation;
    let event::Invitation { room, room_name, user, by, created_at } = invitation;
    wire::Invitation {
        id,
        room,
        room_name,
        user,
        by,
        created_at,
        accepted,
        applied: applied_if_not(is_applied),
    }
}

pub(super) fn person(known: PersonDetails, is_applied: bool) -> wire::Person {
    let event::Person { username, email, gender, language, account, main_photo, business } = known.person;
    wire::Person {
        id: known.user,
        username,
        email,
        gender,
        language,
        account,
        main_photo,
        business,
        is_online: known.is_online,
        is_camera: known.is_camera,
        applied: applied_if_not(is_applied),
    }
}

pub(super) fn team(team: TeamView, is_applied: bool) -> wire::Team {
    wire::Team {
        id: team.id,
        name: team.name,
        user: team.creator,
        users_count: count_if_truncated(&team.users),
        users: Some(team.users.named),
        created_at: team.created_at,
        applied: applied_if_not(is_applied),
    }
}
