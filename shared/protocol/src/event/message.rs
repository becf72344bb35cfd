//! Defines events of messages: sent, edited, deleted. A message's id is its sequence, so no payload holds its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    clock::Timestamp,
    id::{MessageId, RoomId, UserId},
};

/// A message as stored and pushed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChatMessage {
    /// Its text.
    pub message: String,
    /// The room it was sent in.
    pub room: RoomId,
    /// Who sent it.
    pub user: UserId,
    /// When api accepted it.
    pub created_at: Timestamp,
    /// The sender's own name for it, by which a resuming client recognises what it has sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Fields that only messages in rooms of this kind have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<MessageDetail>,
}

/// Fields that only messages in rooms of one kind have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageDetail {
    /// In a match room: the values that its sockets are pushed, so that no node has to look them up.
    Match {
        /// Who sent it.
        user: Value,
        /// The room it was sent in.
        room: Value,
    },
    /// In a support room.
    Support {
        /// Whether the visitor's side sent it.
        side: bool,
        /// Who sent it, as the client says.
        auther: String,
        /// The type of the message, as the client says.
        message_type: String,
    },
}

impl MessageDetail {
    /// Whether it is stored with the message, for later reads.
    #[must_use]
    pub const fn is_stored(&self) -> bool {
        matches!(self, Self::Support { .. })
    }
}

/// The text of a message was replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageEdit {
    /// The message.
    pub message_id: MessageId,
    /// Its new text.
    pub message: String,
    /// The room it is in.
    pub room: RoomId,
    /// Who edited it.
    pub user: UserId,
    /// When it was edited.
    pub edited_at: Timestamp,
}

/// Messages were deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageDelete {
    /// The messages.
    pub messages_ids: Vec<MessageId>,
    /// The room they were in.
    pub room: RoomId,
    /// Who deleted them.
    pub user: UserId,
    /// When they were deleted.
    pub deleted_at: Timestamp,
}

/// A person has read everything up to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageRead {
    /// The message.
    pub message_id: MessageId,
    /// The room it is in.
    pub room: RoomId,
    /// Who has read it.
    pub user: UserId,
}
