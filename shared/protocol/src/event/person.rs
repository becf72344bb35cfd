//! Defines events of people, as the host application describes them in its tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    clock::Timestamp,
    id::{RoomId, UserId},
};

/// What the host application says of a person. What is absent is unknown, and changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Person {
    /// The name others see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Their mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// As the host application writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender: Option<String>,
    /// The language they read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Their balance, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The address of their picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_photo: Option<String>,
    /// Whether they have a business plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub business: Option<bool>,
}

/// What changes of a person: a field that is absent stays, and one that is null is unknown from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PersonChange {
    /// The name others see.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub username: Option<Option<String>>,
    /// Their mail address.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub email: Option<Option<String>>,
    /// As the host application writes it.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub gender: Option<Option<String>>,
    /// The language they read.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub language: Option<Option<String>>,
    /// Their balance, as text.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub account: Option<Option<String>>,
    /// The address of their picture.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub main_photo: Option<Option<String>>,
    /// Whether they have a business plan.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub business: Option<Option<bool>>,
}

/// A field that is there, null or not.
fn named<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl From<Person> for PersonChange {
    /// What is unknown changes nothing.
    fn from(person: Person) -> Self {
        let Person { username, email, gender, language, account, main_photo, business } = person;
        Self {
            username: username.map(Some),
            email: email.map(Some),
            gender: gender.map(Some),
            language: language.map(Some),
            account: account.map(Some),
            main_photo: main_photo.map(Some),
            business: business.map(Some),
        }
    }
}

/// A person's description changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// Whose.
    pub user: UserId,
    /// When the token that says so was issued, in seconds since 1970: the newest is true.
    pub issued_at: i64,
    /// What changed.
    #[serde(flatten)]
    pub change: PersonChange,
}

impl Profile {
    /// Largest `issued_at` that counts, in seconds since 1970: an hour from now, since clocks differ. A stored
    /// description with a larger one (versions up to 0.1 stored any) is replaced by whatever comes next.
    #[must_use]
    pub fn issued_at_max() -> i64 {
        Timestamp::now().unix_ms() / 1_000 + 3_600
    }
}

/// A person is asked into a room. Its id is the event's sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Invitation {
    /// Where to.
    pub room: RoomId,
    /// The room's name then.
    pub room_name: String,
    /// Who is asked.
    pub user: UserId,
    /// Who asks.
    pub by: UserId,
    /// When.
    pub created_at: Timestamp,
}

/// An invitation was answered by the person it asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvitationAnswer {
    /// The invitation: its sequence in the same person's shard.
    pub invitation: u64,
    /// Who answers.
    pub user: UserId,
    /// Where they were asked to.
    pub room: RoomId,
    /// Whether they came.
    pub accepted: bool,
}

/// A person looks at another of their rooms of two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoomSelect {
    /// Who.
    pub user: UserId,
    /// Which: their current room from now on.
    pub current: RoomId,
}

/// A person shows themselves, or does not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Camera {
    /// Who.
    pub user: UserId,
    /// Whether their camera is on.
    pub is_camera: bool,
}

/// A person's sockets on one node. Headers carry the incarnation and the counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Online {
    /// Who.
    pub user: UserId,
}
