//! Defines events of people, as the host application describes them in its tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    clock::Timestamp,
    id::{RoomId, UserId},
};

/// What the host application says about a person. An absent field is unknown, and changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Person {
    /// The name others see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Their mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Their gender, as the host application writes it.
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

/// A change of a person's profile: an absent field stays as it is, and a null field is unknown from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PersonChange {
    /// The name others see.
    #[serde(default, deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    pub username: Option<Option<String>>,
    /// Their mail address.
    #[serde(default, deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    pub email: Option<Option<String>>,
    /// Their gender, as the host application writes it.
    #[serde(default, deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    pub gender: Option<Option<String>>,
    /// The language they read.
    #[serde(default, deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    pub language: Option<Option<String>>,
    /// Their balance, as text.
    #[serde(default, deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    pub account: Option<Option<String>>,
    /// The address of their picture.
    #[serde(default, deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    pub main_photo: Option<Option<String>>,
    /// Whether they have a business plan.
    #[serde(default, deserialize_with = "present_field", skip_serializing_if = "Option::is_none")]
    pub business: Option<Option<bool>>,
}

/// Reads a field that is present, null or not.
fn present_field<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl From<Person> for PersonChange {
    /// Unknown fields change nothing.
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

/// A person's profile changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// The person.
    pub user: UserId,
    /// When the token that says so was issued, in seconds since 1970: the newest token counts.
    pub issued_at: i64,
    /// What changed.
    #[serde(flatten)]
    pub change: PersonChange,
}

impl Profile {
    /// Largest `issued_at` that counts, in seconds since 1970: an hour from now, since clocks differ. A stored profile
    /// with a larger one (versions up to 0.1 stored any) is replaced by the next profile.
    #[must_use]
    pub fn issued_at_max() -> i64 {
        Timestamp::now().unix_ms() / 1_000 + 3_600
    }
}

/// A person is invited into a room. The invitation's id is the event's sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Invitation {
    /// The room.
    pub room: RoomId,
    /// The room's name at that time.
    pub room_name: String,
    /// Who is invited.
    pub user: UserId,
    /// Who invites.
    pub by: UserId,
    /// When they were invited.
    pub created_at: Timestamp,
}

/// An invitation was answered, or ended by the person's removal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvitationAnswer {
    /// The invitation: its sequence in the person's shard.
    pub invitation: u64,
    /// Who was invited.
    pub user: UserId,
    /// The room that they were invited into.
    pub room: RoomId,
    /// Whether they accepted.
    pub accepted: bool,
}

/// A person switched to another of their rooms of two people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoomSelect {
    /// The person.
    pub user: UserId,
    /// Their current room from now on.
    pub current: RoomId,
}

/// A person turned their camera on or off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Camera {
    /// The person.
    pub user: UserId,
    /// Whether their camera is on.
    pub is_camera: bool,
}

/// A person has sockets on a node, or has none there any more. Headers carry the incarnation and the counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Online {
    /// The person.
    pub user: UserId,
}
