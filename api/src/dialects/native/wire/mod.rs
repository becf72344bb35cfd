//! Defines the native bodies and frames, as they stand on the wire.

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
    /// Only a match needs none.
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

/// The kind of a new room, where its other fields don't say it.
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

/// How many entries a page has at most.
#[derive(JsonSchema)]
#[schemars(inline)]
struct Limit(
    #[expect(dead_code, reason = "the form alone")]
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

/// A room, with the native names.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Room {
    pub(in crate::dialects::native) id: RoomId,
    pub(in crate::dialects::native) name: String,
    pub(in crate::dialects::native) description: Option<String>,
    pub(in crate::dialects::native) private: bool,
    /// The first 100 of those who may enter, where not everyone may: all come in pages, from `members`. Null where
    /// they are too many for one answer.
    pub(in crate::dialects::native) users: Option<Vec<UserId>>,
    /// How many they are, where `users` has not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) users_count: Option<u64>,
    /// Who is in it; null where they are too many to name. A fan-out node adds it to its answers itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub(in crate::dialects::native) participants: Option<Option<Vec<UserId>>>,
    /// How many are in it, where they are too many to name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) count: Option<i64>,
    pub(in crate::dialects::native) team: Option<TeamId>,
    pub(in crate::dialects::native) user: UserId,
    pub(in crate::dialects::native) kind: event::RoomKind,
    pub(in crate::dialects::native) active: bool,
    pub(in crate::dialects::native) created_at: Timestamp,
    pub(in crate::dialects::native) activity: Timestamp,
    pub(in crate::dialects::native) unread: i64,
    /// Only where reads can't see all of it yet.
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
    /// What only messages in rooms of its kind have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::dialects::native) detail: Option<event::MessageDetail>,
}

/// A message that is new or was changed, as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Changed {
    #[serde(flatten)]
    pub(in crate::dialects::native) message: Message,
    /// The event that made it what it is.
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

/// Where a person is.
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
    /// The first 100: all come in pages, from `members`. Null where they are too many for one answer.
    pub(in crate::dialects::native) users: Option<Vec<UserId>>,
    /// How many they are, where `users` has not all.
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

/// A refusal, as RFC 9457 has it.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct Problem<'a> {
    #[serde(rename = "type")]
    pub(in crate::dialects::native) kind: &'static str,
    pub(in crate::dialects::native) title: &'a str,
    pub(in crate::dialects::native) status: u16,
    /// It never changes its meaning.
    pub(in crate::dialects::native) code: ErrorCode,
    /// One sentence for a person.
    pub(in crate::dialects::native) detail: &'a str,
}

/// A part of a room's history, or what has changed in it.
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

/// A page of what was found.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::dialects::native) struct FoundPage {
    #[serde(flatten)]
    pub(in crate::dialects::native) page: Page<Message>,
    /// As in `position`: epoch and last event of each shard.
    pub(in crate::dialects::native) indexed_through: Vec<(u64, u64)>,
}

/// An edit, as its sender is answered.
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
