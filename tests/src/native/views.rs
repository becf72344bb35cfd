//! Defines the objects of the native dialect with the fields that tests read.

use serde::Deserialize;

/// A room.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RoomView {
    /// The room's id.
    pub id: u64,
    /// The room's name.
    pub name: String,
    /// What the room is about.
    pub description: Option<String>,
    /// Whether only its members may enter it.
    pub private: bool,
    /// The first 100 members; `None` where everyone may enter.
    pub users: Option<Vec<String>>,
    /// The number of members, where `users` does not list all.
    pub users_count: Option<u64>,
    /// The people who are in it; `None` where they are too many to name, or unknown.
    pub participants: Option<Vec<String>>,
    /// The number of people who are in it: in the answer to a join, and where they are too many to name.
    pub count: Option<u64>,
    /// The team that owns it.
    pub team: Option<u64>,
    /// Its creator.
    pub user: String,
    /// The kind of the room.
    pub kind: String,
    /// Whether it is open.
    pub active: bool,
    /// The number of messages that the caller has not read, at most 100.
    pub unread: u64,
    /// False where reads can't see all of it yet, else `None`.
    pub applied: Option<bool>,
    /// Where the socket that has joined follows it from.
    pub position: Option<Subscription>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MessageView {
    /// The message's id.
    pub id: u64,
    /// The room's id.
    pub room: u64,
    /// The author.
    pub user: String,
    /// The text.
    pub message: String,
    /// When it was sent.
    pub created_at: String,
    /// When its text was last changed.
    pub edited_at: Option<String>,
    /// The key that its client gave it.
    pub client_id: Option<String>,
    /// The id of the last event that changed it, in a list of changes.
    pub changed: Option<u64>,
    /// When it was deleted, in a list of changes.
    pub deleted_at: Option<String>,
}

/// A page of search results.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SearchPage {
    /// The messages found.
    pub results: Vec<MessageView>,
    /// The cursor of the next page; `None`, which is null and not left out, on the last one.
    #[serde(deserialize_with = "Option::deserialize")]
    pub next: Option<String>,
    /// Epoch and last searchable event of each shard.
    pub indexed_through: Vec<(u64, u64)>,
}

/// A team.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TeamView {
    /// The team's id.
    pub id: u64,
    /// The team's name.
    pub name: String,
    /// Its creator.
    pub user: String,
    /// The first 100 members.
    pub users: Option<Vec<String>>,
    /// The number of members, where `users` does not list all.
    pub users_count: Option<u64>,
}

/// Where a socket begins to follow a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Subscription {
    /// The last event of the channel before the subscription, or of its shard.
    pub id: u64,
    /// The epoch of `id`.
    pub epoch: u64,
    /// The index of the channel's shard in the lists that `position` pushes.
    pub shard: usize,
    /// Whether no event since the requested position is missing.
    pub recovered: bool,
}
