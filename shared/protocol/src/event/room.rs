//! Defines events of rooms, of who may enter them, and of who is in them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    id::{RoomId, TeamId, UserId},
};

/// What sort of room it is: it decides who may enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RoomKind {
    /// Everyone with a token.
    Public,
    /// Its members and its creator.
    Private,
    /// The members of the team that owns it.
    Team,
    /// Everyone with a token; in a category, under a title that no other has there.
    Topic,
    /// The two who talk.
    Direct,
    /// The two it was made for by the host application.
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

    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether everyone with a token may enter.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Public | Self::Topic)
    }

    /// Whether it is two people's, who never change.
    #[must_use]
    pub const fn is_pair(self) -> bool {
        matches!(self, Self::Direct | Self::Match)
    }
}

/// A room was made. Its id is the event's sequence. The keys are those of a room as clients know
/// it, with the values that every new room has, since the payload is what they are pushed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// What only rooms of its kind have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<RoomDetail>,
}

/// What only rooms of one kind have. It never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoomDetail {
    /// A topic's.
    Topic {
        /// The category it stands in.
        category: String,
        /// Its picture, as a path below the media's; none is the default one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        img: Option<String>,
    },
    /// A support room's.
    Support {
        /// The key to the room: 24 random hexadecimal digits.
        secret: String,
        /// The visitor, as they call themselves.
        visitor: String,
        /// The organisation whose agents answer.
        org_id: String,
        /// What the visitor came by.
        portfolio_name: String,
        /// What it is about.
        product_name: String,
        /// The room as the organisation's logs know it.
        event_id: String,
        /// How many rooms of that visitor's in the organisation came before, and this one.
        ordinal: u32,
    },
}

/// A person is in a room now, or not any more. Headers carry the incarnation and the counter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Participant {
    /// Who.
    pub user: UserId,
    /// Where.
    pub room: RoomId,
}

/// A person may enter a room, or may not any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// Where.
    pub room: RoomId,
    /// Who said so.
    pub by: UserId,
}

/// A room is not what it was. What is absent stays as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// True: the two talk no more, until both write again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<bool>,
}

impl RoomUpdate {
    /// One that is said now, and changes nothing yet.
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
