//! Defines the JSON of the native dialect. Doc comments on types and fields are published in `openapi.json` and
//! `asyncapi.json`.

pub(in crate::dialects::native) mod action;
pub(in crate::dialects::native) mod frame;

use protocol::{
    clock::Timestamp,
    error::ErrorCode,
    event,
    id::{MessageId, RoomId, TeamId, UserId},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decode::LIMIT_MAX;

/// `POST /rooms`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct NewRoom {
    #[serde(default)]
    pub(in crate::dialects::native) kind: Option<NewKind>,
    /// Required, except for a match.
    #[serde(default)]
    pub(in crate::dialects::native) name: String,
    #[serde(default)]
    pub(in crate::dialects::native) description: Option<String>,
    #[serde(default)]
    pub(in crate::dialects::native) private: bool,
    #[serde(default)]
    pub(in crate::dialects::native) team: Option<TeamId>,
    #[serde(default)]
    pub(in crate::dialects::native) users: Vec<UserId>,
}

/// The kind of a new room, if the other fields do not determine it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::dialects::native) enum NewKind {
    Match,
}

/// `PATCH /rooms/{id}`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct RoomChange {
    #[serde(default)]
    pub(in crate::dialects::native) name: Option<String>,
    #[serde(default)]
    pub(in crate::dialects::native) description: Option<String>,
    #[serde(default)]
    pub(in crate::dialects::native) private: Option<bool>,
}

/// `POST /teams`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct NewTeam {
    pub(in crate::dialects::native) name: String,
    #[serde(default)]
    pub(in crate::dialects::native) users: Vec<UserId>,
}

/// `POST /rooms/{id}/messages`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct NewMessage {
    pub(in crate::dialects::native) message: String,
    #[serde(default)]
    pub(in crate::dialects::native) client_id: Option<String>,
}

/// `PATCH /rooms/{id}/messages/{message_id}`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct NewText {
    pub(in crate::dialects::native) message: String,
}

/// `POST /rooms/{id}/invitations`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct NewInvitation {
    pub(in crate::dialects::native) user: UserId,
}

/// `PUT /rooms/{id}/read`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct ReadUpTo {
    pub(in crate::dialects::native) message_id: MessageId,
}

/// Maximum number of entries of a page.
#[derive(JsonSchema)]
#[schemars(inline)]
struct Limit(
    #[expect(dead_code, reason = "only its JSON schema is used")]
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    u32,
);

/// The query of a room's history.
#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct HistoryQuery {
    #[serde(default)]
    #[schemars(with = "Option<u64>")]
    pub(in crate::dialects::native) before: Option<String>,
    #[serde(default)]
    #[schemars(with = "Option<u64>")]
    pub(in crate::dialects::native) after: Option<String>,
    #[serde(default)]
    pub(in crate::dialects::native) changed_after: Option<String>,
    #[serde(default)]
    #[schemars(with = "Option<Limit>")]
    pub(in crate::dialects::native) limit: Option<String>,
}

/// The query of a search.
#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct SearchQuery {
    #[serde(default)]
    pub(in crate::dialects::native) q: String,
    #[serde(default)]
    #[schemars(with = "Option<RoomId>")]
    pub(in crate::dialects::native) room: Option<String>,
    #[serde(default)]
    pub(in crate::dialects::native) cursor: Option<String>,
    #[serde(default)]
    #[schemars(with = "Option<Limit>")]
    pub(in crate::dialects::native) limit: Option<String>,
}

/// The query of a list.
#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::dialects::native) struct ListQuery {
    #[serde(default)]
    pub(in crate::dialects::native) cursor: Option<String>,
    #[serde(default)]
    #[schemars(with = "Option<Limit>")]
    pub(in crate::dialects::native) limit: Option<String>,
}

/// A room.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Room {
    pub(in crate::dialects::native) id: RoomId,
    pub(in crate::dialects::native) name: String,
    pub(in crate::dialects::native) description: Option<String>,
    pub(in crate::dialects::native) private: bool,
    /// The first 100 members, if not everyone may enter the room; `GET …/members` lists all, in pages. Null if even
    /// these are too long for one answer.
    pub(in crate::dialects::native) users: Option<Vec<UserId>>,
    /// The number of members, if `users` does not list all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) users_count: Option<u64>,
    /// The people who are in the room now; null if they are too many to list. Answers of sockets get it from the
    /// fan-out node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub(in crate::dialects::native) participants: Option<Option<Vec<UserId>>>,
    /// The number of people in the room, if they are too many to list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) count: Option<i64>,
    pub(in crate::dialects::native) team: Option<TeamId>,
    pub(in crate::dialects::native) user: UserId,
    pub(in crate::dialects::native) kind: event::RoomKind,
    pub(in crate::dialects::native) active: bool,
    pub(in crate::dialects::native) created_at: Timestamp,
    pub(in crate::dialects::native) activity: Timestamp,
    pub(in crate::dialects::native) unread: i64,
    /// False if reads can't see the whole change yet; otherwise left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) applied: Option<bool>,
}

/// A message.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Message {
    pub(in crate::dialects::native) id: MessageId,
    pub(in crate::dialects::native) room: RoomId,
    pub(in crate::dialects::native) user: UserId,
    pub(in crate::dialects::native) message: String,
    pub(in crate::dialects::native) created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) edited_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) client_id: Option<String>,
    /// Data that only messages in rooms of this kind have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) detail: Option<event::MessageDetail>,
}

/// A message that is new or was changed, in its current state.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Changed {
    #[serde(flatten)]
    pub(in crate::dialects::native) message: Message,
    /// The id of the last event that changed the message.
    pub(in crate::dialects::native) changed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) deleted_at: Option<Timestamp>,
}

/// An invitation.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Invitation {
    pub(in crate::dialects::native) id: u64,
    pub(in crate::dialects::native) room: RoomId,
    pub(in crate::dialects::native) room_name: String,
    pub(in crate::dialects::native) user: UserId,
    pub(in crate::dialects::native) by: UserId,
    pub(in crate::dialects::native) created_at: Timestamp,
    /// Null until it is answered.
    pub(in crate::dialects::native) accepted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) applied: Option<bool>,
}

/// A person.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Person {
    pub(in crate::dialects::native) id: UserId,
    pub(in crate::dialects::native) username: Option<String>,
    pub(in crate::dialects::native) email: Option<String>,
    pub(in crate::dialects::native) gender: Option<String>,
    pub(in crate::dialects::native) language: Option<String>,
    pub(in crate::dialects::native) account: Option<String>,
    pub(in crate::dialects::native) main_photo: Option<String>,
    pub(in crate::dialects::native) business: Option<bool>,
    pub(in crate::dialects::native) is_online: bool,
    pub(in crate::dialects::native) is_camera: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) applied: Option<bool>,
}

/// A person's presence: whether online, and in which rooms.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Presence {
    pub(in crate::dialects::native) user: UserId,
    pub(in crate::dialects::native) is_online: bool,
    pub(in crate::dialects::native) rooms: Vec<RoomId>,
}

/// A team.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Team {
    pub(in crate::dialects::native) id: TeamId,
    pub(in crate::dialects::native) name: String,
    pub(in crate::dialects::native) user: UserId,
    /// The first 100 members; `GET …/members` lists all, in pages. Null if even these are too long for one answer.
    pub(in crate::dialects::native) users: Option<Vec<UserId>>,
    /// The number of members, if `users` does not list all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) users_count: Option<u64>,
    pub(in crate::dialects::native) created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) applied: Option<bool>,
}

/// A change that reads can't see yet.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Pending {
    pub(in crate::dialects::native) applied: bool,
}

/// An error, as an RFC 9457 problem.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Problem<'a> {
    #[serde(rename = "type")]
    pub(in crate::dialects::native) kind: &'static str,
    pub(in crate::dialects::native) title: &'a str,
    pub(in crate::dialects::native) status: u16,
    /// A stable code, for programs.
    pub(in crate::dialects::native) code: ErrorCode,
    /// A sentence for people.
    pub(in crate::dialects::native) detail: &'a str,
}

/// A page of a room's history, or of its changes.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::dialects::native) enum History {
    Page(Page<Message>),
    Changes(Page<Changed>),
}

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Page<T> {
    pub(in crate::dialects::native) results: Vec<T>,
    pub(in crate::dialects::native) next: Option<String>,
}

/// A page of search results.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct FoundPage {
    #[serde(flatten)]
    pub(in crate::dialects::native) page: Page<Message>,
    /// Epoch and last searchable event of each shard, as in `position`.
    pub(in crate::dialects::native) indexed_through: Vec<(u64, u64)>,
}

/// The answer to an edit.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Edited {
    pub(in crate::dialects::native) id: MessageId,
    pub(in crate::dialects::native) room: RoomId,
    pub(in crate::dialects::native) user: UserId,
    pub(in crate::dialects::native) message: String,
    pub(in crate::dialects::native) edited_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) applied: Option<bool>,
}
