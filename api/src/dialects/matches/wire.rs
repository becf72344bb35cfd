//! The frames of match sockets.

use schemars::JsonSchema;
use serde::Deserialize;
use shared::id::{MessageId, RoomId};

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
