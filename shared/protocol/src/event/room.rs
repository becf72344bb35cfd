//! Defines events of rooms, of who may enter them, and of who is in them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    id::{RoomId, TeamId, UserId},
};

/// The kind of a room: it determines who may enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RoomKind {
    /// Everyone with a token.
    Public,
    /// Its members and its creator.
    Private,
    /// The members of the team that owns it.
    Team,
    /// Everyone with a token. The room is in a category, under a title that is unique there.
    Topic,
    /// The two people who talk.
    Direct,
    /// The two people for whom the host application created it.
    Match,
    /// A visitor and the agents of an organisation.
    Support,
}

impl RoomKind {
    const ALL: [Self; 7] =
        [Self::Public, Self::Private, Self::Team, Self::Topic, Self::Direct, Self::Match, Self::Support];

    /// The kind as text, in payloads and in Postgres.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Team => "team",
            Self::Topic => "topic",
            Self::Direct => "direct",
            Self::Match => "match",
            Self::Support => "support",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether everyone with a token may enter.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Public | Self::Topic)
    }

    /// Whether it belongs to two people, who never change.
    #[must_use]
    pub const fn is_pair(self) -> bool {
        matches!(self, Self::Direct | Self::Match)
    }
}

/// A room was created. Its id is the event's sequence. The payload is pushed to clients, so its fields are those of a
/// room as clients know it, with the values that every new room has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Room {
    /// `chatroom` in the event that is pushed to clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_type: Option<String>,
    /// Its name.
    pub name: String,
    /// What the room is about.
    pub description: Option<String>,
    /// Whether only members may enter.
    pub private: bool,
    /// Who may enter if it is private: they are added as members right after.
    pub users: Vec<UserId>,
    /// Who is in it: nobody yet.
    #[serde(default)]
    pub participants: Vec<UserId>,
    /// The team that owns it.
    pub team: Option<TeamId>,
    /// Who created it.
    pub user: UserId,
    /// Its kind.
    pub kind: RoomKind,
    /// Whether messages can be sent.
    pub active: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last active: when it was created.
    pub activity: Timestamp,
    /// Number of messages that the reader has not seen: none yet.
    pub unread: u32,
    /// Fields that only rooms of its kind have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<RoomDetail>,
}

/// Fields that only rooms of one kind have. They never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoomDetail {
    /// Of a topic.
    Topic {
        /// The category that it is in.
        category: String,
        /// Its picture, as a path below that of the media; absent for the default picture.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        img: Option<String>,
    },
    /// Of a support room.
    Support {
        /// The key to the room: 24 random hexadecimal digits.
        secret: String,
        /// The visitor's name, as they gave it.
        visitor: String,
        /// The organisation whose agents answer.
        org_id: String,
        /// The portfolio by which the visitor came.
        portfolio_name: String,
        /// The product that it is about.
        product_name: String,
        /// The room's id in the logs of the organisation.
        event_id: String,
        /// The number of this room among the visitor's rooms in the organisation, from 1.
        ordinal: u32,
    },
}

/// A person is in a room now, or is no longer in it. Headers carry the incarnation and the counter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Participant {
    /// The person.
    pub user: UserId,
    /// The room.
    pub room: RoomId,
}

/// A person may enter a room, or may no longer enter it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// The person.
    pub user: UserId,
    /// The room.
    pub room: RoomId,
    /// Who added or removed them.
    pub by: UserId,
}

/// A room changed. Absent fields stay as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoomUpdate {
    /// The room.
    pub room: RoomId,
    /// Who changed it.
    pub by: UserId,
    /// When it was changed.
    pub updated_at: Timestamp,
    /// Its new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its new description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether only members may enter from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<bool>,
    /// True if it was closed: nobody can join or send any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<bool>,
    /// True if its two people talk no more, until both write again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<bool>,
}

impl RoomUpdate {
    /// An update made now, which changes nothing yet.
    #[must_use]
    pub fn new(room: RoomId, by: UserId) -> Self {
        Self {
            room,
            by,
            updated_at: Timestamp::now(),
            name: None,
            description: None,
            private: None,
            closed: None,
            stopped: None,
        }
    }
}
