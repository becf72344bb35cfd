//! Defines the frames of match sockets, and their answers. Doc comments are published in `asyncapi.json`.

use protocol::{
    clock::Timestamp,
    id::{MessageId, RoomId},
    socket::{LeftRoom, NoFields},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::commands::match_detail::{MatchRoomView, PersonView};

protocol::actions! {
    /// The actions of match sockets.
    pub(crate) enum Action {
        /// Lists your rooms; for admins, all rooms.
        List(List) = "list" => 200 Vec<MatchRoomView>,
        /// Joins a room, and leaves the one that the socket was in.
        JoinRoom(JoinRoom) = "join_room" => 200 MatchRoomView,
        /// Leaves the room that the socket is in.
        LeaveRoom(NoFields) = "leave_room" => 200 LeftRoom,
        /// Describes the room that the socket is in; not for admins.
        CurrentRoomInfo(NoFields) = "current_room_info" => 200 MatchRoomView,
        /// Sends a message.
        CreateMessage(CreateMessage) = "create_message" => 201 CreatedMessage,
        /// Changes the text of a message of yours.
        EditMessage(EditMessage) = "edit_message" => 200 Changed,
        /// Deletes messages: all or none.
        DeleteMessages(DeleteMessages) = "delete_messages" => 200 Deleted,
    }
}

/// `list`: without fields, all rooms in one answer.
#[derive(Default, Deserialize, JsonSchema)]
pub(super) struct List {
    /// Maximum number of rooms.
    #[serde(default)]
    pub(super) limit: Option<i64>,
    /// The `pk` of the last room of the previous answer: the list continues after it.
    #[serde(default)]
    pub(super) before: Option<RoomId>,
}

/// `join_room`.
#[derive(Deserialize, JsonSchema)]
pub(super) struct JoinRoom {
    pub(super) room_pk: RoomId,
}

/// `create_message`.
#[derive(Deserialize, JsonSchema)]
pub(super) struct CreateMessage {
    pub(super) msg_text: String,
}

/// `edit_message`.
#[derive(Deserialize, JsonSchema)]
pub(super) struct EditMessage {
    pub(super) msg_id: MessageId,
    pub(super) edited_msg_text: String,
}

/// `delete_messages`.
#[derive(Deserialize, JsonSchema)]
pub(super) struct DeleteMessages {
    pub(super) msg_id_list: Vec<MessageId>,
}

/// A message, as in its push to everyone in the room.
#[derive(Serialize, JsonSchema)]
pub(super) struct CreatedMessage {
    pub(super) id: MessageId,
    pub(super) text: String,
    pub(super) created_at: Timestamp,
    /// The author; only `id` if the message was sent through another dialect.
    #[schemars(with = "Sender")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<Value>,
    /// The room; only `pk` if the message was sent through another dialect.
    #[schemars(with = "Room")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) room: Option<Value>,
}

/// The author of a message.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its JSON schema is used")]
enum Sender {
    Known(PersonView),
    Named { id: Value },
}

/// The room of a message.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its JSON schema is used")]
enum Room {
    Known(MatchRoomView),
    Named { pk: RoomId },
}

/// A message's new text.
#[derive(Serialize, JsonSchema)]
pub(super) struct Changed {
    pub(super) room_id: RoomId,
    pub(super) message_id: MessageId,
    pub(super) message_text: String,
}

/// Messages that were deleted.
#[derive(Serialize, JsonSchema)]
pub(super) struct Deleted {
    pub(super) room_id: RoomId,
    pub(super) messages_ids: Vec<MessageId>,
}
