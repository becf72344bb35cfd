//! Defines the fields of the native sockets' frames. Other fields are ignored.

use protocol::{
    id::{MessageId, RoomId, UserId},
    subject::Channel,
};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct Subscribe {
    pub(in crate::dialects::native) channel: Channel,
    #[serde(default)]
    pub(in crate::dialects::native) since: Option<u64>,
    #[serde(default)]
    pub(in crate::dialects::native) epoch: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct JoinRoom {
    pub(in crate::dialects::native) room_pk: RoomId,
    #[serde(default)]
    pub(in crate::dialects::native) since: Option<u64>,
    #[serde(default)]
    pub(in crate::dialects::native) epoch: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct CreateMessage {
    #[serde(default)]
    pub(in crate::dialects::native) room_pk: Option<RoomId>,
    pub(in crate::dialects::native) msg_text: String,
    #[serde(default)]
    pub(in crate::dialects::native) client_id: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct EditMessage {
    #[serde(default)]
    pub(in crate::dialects::native) room_pk: Option<RoomId>,
    pub(in crate::dialects::native) msg_id: MessageId,
    pub(in crate::dialects::native) edited_msg_text: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct DeleteMessages {
    #[serde(default)]
    pub(in crate::dialects::native) room_pk: Option<RoomId>,
    pub(in crate::dialects::native) msg_id_list: Vec<MessageId>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct History {
    #[serde(default)]
    pub(in crate::dialects::native) room_pk: Option<RoomId>,
    #[serde(default)]
    pub(in crate::dialects::native) before: Option<u64>,
    #[serde(default)]
    pub(in crate::dialects::native) after: Option<u64>,
    #[serde(default)]
    pub(in crate::dialects::native) limit: Option<i64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct List {
    #[serde(default)]
    pub(in crate::dialects::native) limit: Option<i64>,
    #[serde(default)]
    pub(in crate::dialects::native) cursor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct MarkRead {
    #[serde(default)]
    pub(in crate::dialects::native) room_pk: Option<RoomId>,
    pub(in crate::dialects::native) message_id: MessageId,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct Invite {
    #[serde(default)]
    pub(in crate::dialects::native) room_pk: Option<RoomId>,
    pub(in crate::dialects::native) user: UserId,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct TopicInfo {
    pub(in crate::dialects::native) category: String,
    pub(in crate::dialects::native) room_pk: RoomId,
}
