//! Defines the JSON of the support dialect. Doc comments on types and fields are published in `openapi.json`.

use protocol::{clock::Timestamp, id::UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST room-control`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct NewRoom {
    pub(super) user_id: UserId,
    pub(super) org_id: String,
    pub(super) portfolio_name: String,
    pub(super) product_name: String,
}

/// The fields of a `room-service` request, in its query or its body.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct ServiceQuery {
    #[serde(rename = "type")]
    #[schemars(with = "Option<Kind>")]
    pub(super) kind: Option<String>,
    pub(super) room_id: Option<String>,
    /// Must be `false` if given.
    pub(super) is_active: Option<bool>,
    /// Answers the messages before this one: `next` of the last answer.
    pub(super) before: Option<String>,
}

/// The types of `room-service` requests; not every method takes each.
#[derive(JsonSchema)]
#[schemars(inline, rename_all = "snake_case")]
#[expect(dead_code, reason = "only its JSON schema is used")]
enum Kind {
    GetMessages,
    GetRoomById,
    DeleteRoom,
}

/// `POST room-service` with the type `create_message`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct NewMessage {
    pub(super) room_id: String,
    pub(super) message_data: String,
    pub(super) side: bool,
    pub(super) auther: String,
    pub(super) message_type: String,
}

/// `GET room-list?org_id=&product_name=`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ListQuery {
    #[serde(default)]
    pub(super) org_id: String,
    #[serde(default)]
    pub(super) product_name: String,
    /// `next` of the last answer; without it the list begins at the newest room.
    #[serde(default)]
    pub(super) cursor: Option<String>,
}

/// The envelope of every answer except the room list.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Answer<T> {
    pub(super) success: bool,
    pub(super) message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inserted_id: Option<String>,
    /// The `before` for older messages; left out if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
    pub(super) response: T,
}

/// The answer to a write.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Done {
    #[serde(rename = "isSuccess")]
    pub(super) is_success: bool,
}

/// A room.
#[derive(Clone, Debug, Serialize, JsonSchema)]
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

/// A message: the fields of its room, with the message's own `_id` and text, and the message's other fields.
#[derive(Debug, Serialize, JsonSchema)]
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
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Rooms {
    pub(super) rooms: Vec<Room>,
    /// The `cursor` for the next rooms; left out if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// The answer to `GET room-service`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum ServiceAnswer {
    Messages(Answer<Vec<Message>>),
    Rooms(Answer<[Room; 1]>),
    Done(Answer<Done>),
}

/// The body of `POST room-service`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its JSON schema is used: the request type decides how the body is read")]
pub(super) enum Write {
    Message(NewMessageBody),
    ServiceQuery(ServiceQuery),
}

/// A new message, with its type.
#[derive(JsonSchema)]
#[schemars(rename = "NewMessage")]
#[expect(dead_code, reason = "only its JSON schema is used")]
pub(super) struct NewMessageBody {
    #[schemars(rename = "type", extend("const" = "create_message"))]
    kind: String,
    #[schemars(flatten)]
    message: NewMessage,
}

/// An error.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Refused<'a> {
    pub(super) success: bool,
    pub(super) message: &'a str,
}
