//! The JSON of this dialect, key by key.

use serde::{Deserialize, Serialize};
use shared::{clock::Timestamp, id::UserId};

/// `POST room-control`.
#[derive(Debug, Deserialize)]
pub(super) struct NewRoom {
    pub(super) user_id: UserId,
    pub(super) org_id: String,
    pub(super) portfolio_name: String,
    pub(super) product_name: String,
}

/// What `room-service` is asked for, and of which room: in the query or in the body.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) room_id: Option<String>,
    /// Only `false` can be asked for.
    pub(super) is_active: Option<bool>,
}

/// `POST room-service`, of the type `create_message`.
#[derive(Debug, Deserialize)]
pub(super) struct NewMessage {
    pub(super) room_id: String,
    pub(super) message_data: String,
    pub(super) side: bool,
    pub(super) auther: String,
    pub(super) message_type: String,
}

/// `GET room-list?org_id=&product_name=`.
#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    pub(super) org_id: String,
    #[serde(default)]
    pub(super) product_name: String,
}

/// What every answer but the list is in.
#[derive(Debug, Serialize)]
pub(super) struct Answer<T> {
    pub(super) success: bool,
    pub(super) message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inserted_id: Option<String>,
    pub(super) response: T,
}

/// The answer to a write.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    #[serde(rename = "isSuccess")]
    pub(super) is_success: bool,
}

/// A room.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Room {
    #[serde(rename = "_id")]
    pub(super) id: String,
    #[serde(rename = "eventId")]
    pub(super) event_id: String,
    pub(super) user_id: String,
    pub(super) org_id: String,
    pub(super) portfolio_name: String,
    pub(super) room_room_id: String,
    pub(super) product_name: String,
    pub(super) message_data: String,
    pub(super) is_active: bool,
}

/// A message: the keys of its room, with its own `_id` and text, and what it has more.
#[derive(Debug, Serialize)]
pub(super) struct Message {
    #[serde(flatten)]
    pub(super) of: Room,
    pub(super) room_id: String,
    pub(super) side: bool,
    pub(super) auther: String,
    pub(super) message_type: String,
    pub(super) created_at: Timestamp,
}

/// An organisation's rooms.
#[derive(Debug, Serialize)]
pub(super) struct Rooms {
    pub(super) rooms: Vec<Room>,
}
