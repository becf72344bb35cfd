//! Defines the bodies of the direct dialect, key by key.

use std::collections::BTreeMap;

use protocol::id::{MAX_ID, MessageId, RoomId, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{dialects::json, queries::people};

/// `POST room/add`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct NewRoom {
    pub(super) owner: UserId,
    pub(super) abonent: UserId,
}

/// `POST room/list`. What else a client sends, its own `created` too, says nothing.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct NewMessage {
    pub(super) room_id: RoomId,
    pub(super) message: String,
    #[serde(default, deserialize_with = "json::deserialize_object")]
    pub(super) author: Option<Author>,
}

/// Whom a client takes for the author.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Author {
    #[serde(default)]
    pub(super) id: Option<UserId>,
}

/// `GET room/list?cursor=`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ListQuery {
    /// What an answer had as `next`; the first rooms without.
    #[serde(default)]
    pub(super) cursor: Option<String>,
}

/// A room.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Room {
    /// Whom the reader talks to.
    #[schemars(with = "Person")]
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
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Message {
    pub(super) id: MessageId,
    pub(super) message: String,
    #[schemars(with = "Person")]
    pub(super) author_id: Value,
    pub(super) created: String,
    pub(super) is_readed: bool,
}

/// All rooms of a reader.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Rooms {
    pub(super) contact_users: BTreeMap<UserId, people::PersonObject>,
    #[schemars(with = "Vec<Person>")]
    pub(super) contacts_ids: Vec<Value>,
    pub(super) current_room: Option<RoomId>,
    #[schemars(with = "Vec<Person>")]
    pub(super) online_ids: Vec<Value>,
    pub(super) room_ids: Vec<RoomId>,
    pub(super) rooms: BTreeMap<RoomId, Room>,
    /// Where there are more rooms: the `cursor` by which they are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// A person's id, as this document writes it: a number where it is one.
#[derive(JsonSchema)]
#[schemars(inline, untagged)]
#[expect(dead_code, reason = "the form alone")]
enum Person {
    Number(#[schemars(range(min = 0, max = MAX_ID))] u64),
    Text(String),
}

/// A room in which the two talk no more.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Stopped {
    pub(super) status: u8,
    pub(super) message: &'static str,
}

/// A camera that is on.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CameraOn {
    pub(super) camera_on: &'static str,
}

/// A camera that is off.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CameraOff {
    pub(super) camera_off: &'static str,
}

/// A refusal.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Refused<'a> {
    pub(super) detail: &'a str,
}
