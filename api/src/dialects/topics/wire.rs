//! Defines the bodies of answers, with keys in the framework's order.

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
    /// Where its socket is.
    pub(super) url: String,
    pub(super) timestamp: Timestamp,
}

/// A new chat.
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

/// What is wrong with each field, in the order of the fields.
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

/// A refusal that is no field's.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Refused<'a> {
    pub(super) detail: &'a str,
}

/// A category that there is not.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct WrongRoom {
    #[serde(rename = "Error")]
    pub(super) error: &'static str,
}

/// A header that holds no token.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct BadHeader {
    pub(super) detail: &'static str,
    pub(super) code: &'static str,
}

/// A token that does not count.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct BadToken<'a> {
    pub(super) detail: &'static str,
    pub(super) code: &'static str,
    pub(super) messages: [TokenMessage<'a>; 1],
}

/// Why it does not.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TokenMessage<'a> {
    pub(super) token_class: &'static str,
    pub(super) token_type: &'static str,
    pub(super) message: &'a str,
}

/// All that a refusal may say.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the form alone: each is written by itself")]
pub(super) enum Refusal<'a> {
    Token(BadToken<'a>),
    Header(BadHeader),
    Room(WrongRoom),
    Detail(Refused<'a>),
    Fields(Invalid),
}

/// What a new chat is made of.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "the form alone: fields come in three sorts of bodies, and are checked one by one"
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

/// What can be changed of a chat.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the form alone")]
pub(super) struct Change {
    #[schemars(length(max = DESCRIPTION_MAX))]
    description: Option<String>,
}

/// The query of a category.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the form alone: links keep what else is asked for")]
pub(super) struct ListQuery {
    /// A page's number, or `last`.
    page: Option<String>,
}
