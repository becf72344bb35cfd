//! The bodies of document 000, key by key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::id::{MessageId, RoomId, UserId};

/// `POST room/add`.
#[derive(Debug, Deserialize)]
pub(super) struct NewRoom {
    pub(super) owner: UserId,
    pub(super) abonent: UserId,
}

/// `POST room/list`. What else a client sends, its own `created` too, says nothing.
#[derive(Debug, Deserialize)]
pub(super) struct NewMessage {
    pub(super) room_id: RoomId,
    pub(super) message: String,
    #[serde(default)]
    pub(super) author: Option<Author>,
}

/// Whom a client takes for the author.
#[derive(Debug, Deserialize)]
pub(super) struct Author {
    #[serde(default)]
    pub(super) id: Option<UserId>,
}

/// A room.
#[derive(Debug, Serialize)]
pub(super) struct Room {
    /// Whom the reader talks to.
    pub(super) abonent_id: Value,
    pub(super) id: RoomId,
    pub(super) is_current: bool,
    pub(super) is_active: bool,
    pub(super) is_low_account: bool,
    /// Seconds since 1970.
    pub(super) activity: f64,
    pub(super) messages: BTreeMap<MessageId, Message>,
}

/// A message.
#[derive(Debug, Serialize)]
pub(super) struct Message {
    pub(super) id: MessageId,
    pub(super) message: String,
    pub(super) author_id: Value,
    pub(super) created: String,
    pub(super) is_readed: bool,
}

/// All rooms of a reader.
#[derive(Debug, Serialize)]
pub(super) struct Rooms {
    pub(super) contact_users: BTreeMap<UserId, Value>,
    pub(super) contacts_ids: Vec<Value>,
    pub(super) current_room: Option<RoomId>,
    pub(super) online_ids: Vec<Value>,
    pub(super) room_ids: Vec<RoomId>,
    pub(super) rooms: BTreeMap<RoomId, Room>,
}
