//! Defines the JSON of the direct dialect. Doc comments on types and fields are published in `openapi.json`.

use std::collections::BTreeMap;

use protocol::id::{MAX_ID, MessageId, RoomId, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{commands::match_detail::PersonView, dialects::json};

/// `POST room/add`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct NewRoom {
    pub(super) owner: UserId,
    pub(super) abonent: UserId,
}

/// `POST room/list`. Other fields are ignored, `created` included.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct NewMessage {
    pub(super) room_id: RoomId,
    pub(super) message: String,
    #[serde(default, deserialize_with = "json::deserialize_object")]
    pub(super) author: Option<Author>,
}

/// The author as the client names it; an id other than the caller's is refused with 403.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Author {
    #[serde(default)]
    pub(super) id: Option<UserId>,
}

/// `GET room/list?cursor=`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ListQuery {
    /// `next` of the last answer; without it the list begins at the first room.
    #[serde(default)]
    pub(super) cursor: Option<String>,
}

/// A room.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Room {
    /// The other person in the room.
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

/// The caller's rooms, or a page of them.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Rooms {
    pub(super) contact_users: BTreeMap<UserId, PersonView>,
    #[schemars(with = "Vec<Person>")]
    pub(super) contacts_ids: Vec<Value>,
    pub(super) current_room: Option<RoomId>,
    #[schemars(with = "Vec<Person>")]
    pub(super) online_ids: Vec<Value>,
    pub(super) room_ids: Vec<RoomId>,
    pub(super) rooms: BTreeMap<RoomId, Room>,
    /// The `cursor` for the next rooms; left out if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// A person's id: a number if the id is a plain decimal, otherwise text.
#[derive(JsonSchema)]
#[schemars(inline, untagged)]
#[expect(dead_code, reason = "only its JSON schema is used")]
enum Person {
    Number(#[schemars(range(min = 0, max = MAX_ID))] u64),
    Text(String),
}

/// The answer to `room/stop`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Stopped {
    pub(super) status: u8,
    pub(super) message: &'static str,
}

/// The answer to `webrtc/cameraOn`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CameraOn {
    pub(super) camera_on: &'static str,
}

/// The answer to `webrtc/cameraOff`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CameraOff {
    pub(super) camera_off: &'static str,
}

/// An error.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Refused<'a> {
    pub(super) detail: &'a str,
}
