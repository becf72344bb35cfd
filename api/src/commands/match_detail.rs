//! Defines the form in which the log stores the people and the room of a match message. Match sockets and direct rooms
//! show people in this form too. Doc comments are published in `asyncapi.json`.

use protocol::{event::Person, id::RoomId};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::match_rooms::MatchRoom;
use crate::queries::people::PersonDetails;

/// A person, as shown in direct rooms and match rooms.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Person")]
pub(crate) struct PersonView {
    /// The person's id: a number if it is one that JSON readers keep exact, else a string.
    id: Value,
    username: Option<String>,
    email: Option<String>,
    gender: Option<String>,
    language: Option<String>,
    account: Option<String>,
    main_photo: Option<String>,
    business: Option<bool>,
    is_online: bool,
    is_camera: bool,
}

impl From<&PersonDetails> for PersonView {
    fn from(details: &PersonDetails) -> Self {
        let Person { username, email, gender, language, account, main_photo, business } =
            details.person.clone();
        Self {
            id: details.user.to_value(),
            username,
            email,
            gender,
            language,
            account,
            main_photo,
            business,
            is_online: details.is_online,
            is_camera: details.is_camera,
        }
    }
}

/// A match room, as sent to match sockets.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Match")]
pub(crate) struct MatchRoomView {
    pk: RoomId,
    participants: Vec<PersonView>,
    has_business: bool,
    /// True on the last room of a list that may go on: its `pk` as `before` reads the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) more: Option<bool>,
}

impl From<&MatchRoom> for MatchRoomView {
    fn from(room: &MatchRoom) -> Self {
        let participants = room.people.iter().map(PersonView::from).collect();
        Self { pk: room.room, participants, has_business: room.has_business_plan(), more: None }
    }
}
