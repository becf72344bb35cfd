//! Defines the frames of match sockets, and their answers.

use protocol::{
    clock::Timestamp,
    id::{MessageId, RoomId},
    socket::{LeftRoom, NoFields},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{commands::match_rooms::MatchRoomView, queries::people};

protocol::actions! {
    /// The actions.
    pub(crate) enum Action {
        /// The rooms: one's own, or, for admins, all.
        List(List) = "list" => 200 Vec<MatchRoomView>,
        /// Is in a room; another one is left.
        JoinRoom(JoinRoom) = "join_room" => 200 MatchRoomView,
        /// Is in no room any more.
        LeaveRoom(NoFields) = "leave_room" => 200 LeftRoom,
        /// The room that the socket is in; not for admins.
        CurrentRoomInfo(NoFields) = "current_room_info" => 200 MatchRoomView,
        /// Sends a message.
        CreateMessage(CreateMessage) = "create_message" => 201 Said,
        /// Changes a message's text, by its author.
        EditMessage(EditMessage) = "edit_message" => 200 Changed,
        /// Deletes messages: all or none.
        DeleteMessages(DeleteMessages) = "delete_messages" => 200 Deleted,
    }
}

/// `list`: without fields all rooms, in one answer.
#[derive(Default, Deserialize, JsonSchema)]
pub(super) struct List {
    /// At most so many.
    #[serde(default)]
    pub(super) limit: Option<i64>,
    /// Those before this one, which the last answer ended with.
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

/// A message, as everyone in the room is pushed it.
#[derive(Serialize, JsonSchema)]
pub(super) struct Said {
    pub(super) id: MessageId,
    pub(super) text: String,
    pub(super) created_at: Timestamp,
    /// Of a message that came by another dialect the `id` alone.
    #[schemars(with = "Sender")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<Value>,
    /// Of such a message the `pk` alone.
    #[schemars(with = "Room")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) room: Option<Value>,
}

/// Who sent a message.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the form alone")]
enum Sender {
    Known(people::PersonObject),
    Named { id: Value },
}

/// Where it was sent.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the form alone")]
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

/// Messages that are gone.
#[derive(Serialize, JsonSchema)]
pub(super) struct Deleted {
    pub(super) room_id: RoomId,
    pub(super) messages_ids: Vec<MessageId>,
}
