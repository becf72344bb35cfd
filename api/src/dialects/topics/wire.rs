//! Defines the JSON of the topics dialect, with keys in the order of Django REST Framework. Doc comments on types
//! and fields are published in `openapi.json`.

use protocol::{clock::Timestamp, id::RoomId};
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::topics::{DESCRIPTION_MAX, TITLE_MAX};

/// A chat.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Chat {
    pub(super) id: RoomId,
    pub(super) title: String,
    pub(super) room: String,
    pub(super) img: String,
    pub(super) creator: String,
    pub(super) description: Option<String>,
    /// The path of the chat's socket.
    pub(super) url: String,
    pub(super) timestamp: Timestamp,
}

/// The answer to creating a chat.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Created {
    pub(super) chat: Chat,
}

/// A page of chats.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Page {
    pub(super) count: u64,
    pub(super) next: Option<String>,
    pub(super) previous: Option<String>,
    pub(super) results: Vec<Chat>,
}

/// The errors of each field.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub(super) struct Invalid {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) title: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) room: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) img: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) non_field_errors: Option<Vec<String>>,
}

/// An error that belongs to no field.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Refused<'a> {
    pub(super) detail: &'a str,
}

/// The error for a category that does not exist.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct WrongRoom {
    #[serde(rename = "Error")]
    pub(super) error: &'static str,
}

/// The error for an `Authorization` header that is not a scheme and a token.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct BadHeader {
    pub(super) detail: &'static str,
    pub(super) code: &'static str,
}

/// The error for a token that is not valid.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct BadToken<'a> {
    pub(super) detail: &'static str,
    pub(super) code: &'static str,
    pub(super) messages: [TokenMessage<'a>; 1],
}

/// Why the token is not valid.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TokenMessage<'a> {
    pub(super) token_class: &'static str,
    pub(super) token_type: &'static str,
    pub(super) message: &'a str,
}

/// The forms of an error.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its JSON schema is used: each variant is written by itself")]
pub(super) enum Refusal<'a> {
    Token(BadToken<'a>),
    Header(BadHeader),
    Room(WrongRoom),
    Detail(Refused<'a>),
    Fields(Invalid),
}

/// The fields of a new chat.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only its JSON schema is used: fields arrive in three kinds of bodies, and are checked one by one"
)]
pub(super) struct NewChat {
    #[schemars(length(min = 1, max = TITLE_MAX))]
    title: String,
    /// One of the categories.
    room: String,
    /// A picture, in a multipart body.
    #[schemars(extend("type" = "string", "contentMediaType" = "application/octet-stream"))]
    img: Option<String>,
    #[schemars(length(max = DESCRIPTION_MAX))]
    description: Option<String>,
}

/// The fields of a chat that can be changed.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its JSON schema is used")]
pub(super) struct Change {
    #[schemars(length(max = DESCRIPTION_MAX))]
    description: Option<String>,
}

/// The query of a category's list.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its JSON schema is used: links keep the other parameters of the query")]
pub(super) struct ListQuery {
    /// A page's number, or `last`.
    page: Option<String>,
}
