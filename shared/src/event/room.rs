//! Rooms, who may enter them, and who is in them.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    id::{RoomId, TeamId, UserId},
};

/// What sort of room it is: it decides who may enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomKind {
    /// Everyone with a token.
    Public,
    /// Its members and its creator.
    Private,
    /// The members of the team that owns it.
    Team,
    /// The two it was made for.
    Match,
}

impl RoomKind {
    /// The kind as text, in payloads and in Postgres.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Team => "team",
            Self::Match => "match",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Public, Self::Private, Self::Team, Self::Match].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A room was made. Its id is the event's sequence. The keys are those of a room as clients know
/// it, with the values that every new room has, since the payload is what they are pushed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Room {
    /// `chatroom`, in the event that clients are pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_type: Option<String>,
    /// Its name.
    pub name: String,
    /// What it is about.
    pub description: Option<String>,
    /// Whether people must be let in.
    pub private: bool,
    /// Who may enter, where it is private: added as members right after.
    pub users: Vec<UserId>,
    /// Who is in it: nobody yet.
    #[serde(default)]
    pub participants: Vec<UserId>,
    /// The team that owns it.
    pub team: Option<TeamId>,
    /// Who made it.
    pub user: UserId,
    /// What sort of room it is.
    pub kind: RoomKind,
    /// Whether messages can be sent.
    pub active: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When something was last said in it: it was made then.
    pub activity: Timestamp,
    /// Messages the reader has not seen: none yet.
    pub unread: u32,
}

/// A person is in a room now, or not any more. Headers carry the incarnation and the counter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Participant {
    /// Who.
    pub user: UserId,
    /// Where.
    pub room: RoomId,
}

/// A person may enter a room, or may not any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// Where.
    pub room: RoomId,
    /// Who said so.
    pub by: UserId,
}

/// A room is not what it was. What is absent stays as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoomUpdate {
    /// Which.
    pub room: RoomId,
    /// Who says so.
    pub by: UserId,
    /// When.
    pub updated_at: Timestamp,
    /// Its new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its new description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether people must be let in from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<bool>,
    /// True: nobody can join or send any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<bool>,
}
