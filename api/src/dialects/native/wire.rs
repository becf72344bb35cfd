//! The native bodies and frames, as they stand on the wire.

use serde::{Deserialize, Serialize};
use shared::{
    clock::Timestamp,
    id::{MessageId, RoomId, TeamId, UserId},
};

/// `POST /rooms`.
#[derive(Debug, Deserialize)]
pub(super) struct NewRoom {
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) private: bool,
    #[serde(default)]
    pub(super) users: Vec<UserId>,
}

/// `POST /rooms/{id}/messages`.
#[derive(Debug, Deserialize)]
pub(super) struct NewMessage {
    pub(super) message: String,
    #[serde(default)]
    pub(super) client_id: Option<String>,
}

/// `PATCH /rooms/{id}/messages/{message_id}`.
#[derive(Debug, Deserialize)]
pub(super) struct NewText {
    pub(super) message: String,
}

/// The query of a room's history.
#[derive(Debug, Deserialize)]
pub(super) struct HistoryQuery {
    #[serde(default)]
    pub(super) before: Option<String>,
    #[serde(default)]
    pub(super) after: Option<String>,
    #[serde(default)]
    pub(super) limit: Option<String>,
}

/// The query of a list of rooms.
#[derive(Debug, Deserialize)]
pub(super) struct RoomsQuery {
    #[serde(default)]
    pub(super) cursor: Option<String>,
    #[serde(default)]
    pub(super) limit: Option<String>,
}

/// A room, with document 002's names.
#[derive(Debug, Serialize)]
pub(super) struct Room {
    pub(super) id: RoomId,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) private: bool,
    pub(super) users: Vec<UserId>,
    pub(super) participants: Vec<UserId>,
    pub(super) team: Option<TeamId>,
    pub(super) user: UserId,
    pub(super) kind: &'static str,
    pub(super) active: bool,
    pub(super) created_at: Timestamp,
    pub(super) activity: Timestamp,
    pub(super) unread: i64,
    /// Only where reads can't see all of it yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) applied: Option<bool>,
}

/// A message.
#[derive(Debug, Serialize)]
pub(super) struct Message {
    pub(super) id: MessageId,
    pub(super) room: RoomId,
    pub(super) user: UserId,
    pub(super) message: String,
    pub(super) created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) edited_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_id: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize)]
pub(super) struct Page<T> {
    pub(super) results: Vec<T>,
    pub(super) next: Option<String>,
}

/// An edit, as its sender is answered.
#[derive(Debug, Serialize)]
pub(super) struct Edited {
    pub(super) id: MessageId,
    pub(super) room: RoomId,
    pub(super) user: UserId,
    pub(super) message: String,
    pub(super) edited_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) applied: Option<bool>,
}

/// Fields of frames. Those an action does not need are not looked at.
pub(super) mod frame {
    use serde::Deserialize;
    use shared::{
        id::{MessageId, RoomId},
        subject::Channel,
    };

    #[derive(Debug, Deserialize)]
    pub(in super::super) struct Subscribe {
        pub(in super::super) channel: Channel,
        #[serde(default)]
        pub(in super::super) since: Option<u64>,
        #[serde(default)]
        pub(in super::super) epoch: Option<u64>,
    }

    #[derive(Debug, Deserialize)]
    pub(in super::super) struct JoinRoom {
        pub(in super::super) room_pk: RoomId,
        #[serde(default)]
        pub(in super::super) since: Option<u64>,
        #[serde(default)]
        pub(in super::super) epoch: Option<u64>,
    }

    #[derive(Debug, Deserialize)]
    pub(in super::super) struct LeaveRoom {
        #[serde(default)]
        pub(in super::super) room_pk: Option<RoomId>,
    }

    #[derive(Debug, Deserialize)]
    pub(in super::super) struct CreateMessage {
        #[serde(default)]
        pub(in super::super) room_pk: Option<RoomId>,
        pub(in super::super) msg_text: String,
        #[serde(default)]
        pub(in super::super) client_id: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    pub(in super::super) struct EditMessage {
        #[serde(default)]
        pub(in super::super) room_pk: Option<RoomId>,
        pub(in super::super) msg_id: MessageId,
        pub(in super::super) edited_msg_text: String,
    }

    #[derive(Debug, Deserialize)]
    pub(in super::super) struct DeleteMessages {
        #[serde(default)]
        pub(in super::super) room_pk: Option<RoomId>,
        pub(in super::super) msg_id_list: Vec<MessageId>,
    }
}
