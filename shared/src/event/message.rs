//! Messages: sent, edited, deleted. A message's id is its sequence, so no payload holds its own.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    id::{MessageId, RoomId, UserId},
};

/// A message as stored and pushed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Its text.
    pub message: String,
    /// The room it was sent in.
    pub room: RoomId,
    /// Who sent it.
    pub user: UserId,
    /// When api accepted it.
    pub created_at: Timestamp,
    /// The sender's own name for it, so that a resuming client knows what it had sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}

/// A message has another text now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageEdit {
    /// The message.
    pub message_id: MessageId,
    /// Its new text.
    pub message: String,
    /// The room it is in.
    pub room: RoomId,
    /// Who edited it.
    pub user: UserId,
    /// When.
    pub edited_at: Timestamp,
}

/// Messages are gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageDelete {
    /// The messages.
    pub messages_ids: Vec<MessageId>,
    /// The room they were in.
    pub room: RoomId,
    /// Who deleted them.
    pub user: UserId,
    /// When.
    pub deleted_at: Timestamp,
}

/// A person has read everything up to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRead {
    /// The message.
    pub message_id: MessageId,
    /// The room it is in.
    pub room: RoomId,
    /// Who has read it.
    pub user: UserId,
}
