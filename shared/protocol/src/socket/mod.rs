//! Defines what sockets carry besides stored events: actions, pushes that are never stored, close codes.
//!
//! What must hold: every action, here or in a dialect, is defined together with the forms of its frame and its answer,
//! so that the generated documents describe all actions.

pub mod local;
pub mod push;

mod close;

pub use close::CloseCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{id::RoomId, json::SchemaFn};

/// The id that a client gave its request, to be echoed unchanged: a JSON scalar. `None` for other values, and for
/// scalars that not every JSON reader can represent (`1e999`), since the id is sent to other clients too.
#[must_use]
pub fn request_id(id: Option<&RawValue>) -> Option<&str> {
    let text = id.map(RawValue::get).filter(|text| !text.starts_with(['{', '[']))?;
    serde_json::from_str::<Value>(text).is_ok().then_some(text)
}

/// An action, as the generated documents describe it.
#[derive(Clone, Copy, Debug)]
pub struct ActionDescription {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// The fields of its frame.
    pub frame: SchemaFn,
    /// The status of its answer.
    pub status: u16,
    /// The data of its answer.
    pub answer: SchemaFn,
}

/// Defines an enum of actions, each with its frame, its name and its answer.
#[macro_export]
macro_rules! actions {
    (
        $(#[$of:meta])*
        $vis:vis enum $actions:ident {
            $(#[doc = $about:literal] $action:ident($frame:ty) = $name:literal => $status:literal $answer:ty,)*
        }
    ) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $actions {
            $(#[doc = $about] $action,)*
        }

        impl $actions {
            /// All actions, as the generated documents describe them.
            $vis const DESCRIPTIONS: &[$crate::socket::ActionDescription] = &[$($crate::socket::ActionDescription {
                name: $name,
                about: $about,
                frame: schemars::SchemaGenerator::subschema_for::<$frame>,
                status: $status,
                answer: schemars::SchemaGenerator::subschema_for::<$answer>,
            }),*];

            /// The action with this name.
            #[must_use]
            $vis fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$action),)*
                    _ => None,
                }
            }
        }
    };
}

/// A frame or an answer without fields of its own.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NoFields {}

/// The frame of an action on a room that has no other fields.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct RoomFrame {
    /// The room. May be left out if the socket is in one room only.
    #[serde(default)]
    pub room_pk: Option<RoomId>,
}

/// The answer to an action that leaves a room.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LeftRoom {
    /// A sentence for people.
    pub response: String,
}

impl LeftRoom {
    /// The answer for this room.
    #[must_use]
    pub fn of(room: RoomId) -> Self {
        Self { response: format!("leaved room {room} successfully!") }
    }
}

/// The position at which a socket begins to follow a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SubscriptionPosition {
    /// The index of the channel's shard in the lists that `position` pushes.
    pub shard: usize,
    /// The epoch of its log.
    pub epoch: u64,
    /// Every event after this one is pushed.
    pub id: u64,
    /// Whether nothing is missing since the last event that the client had.
    pub recovered: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_id_is_a_scalar_that_every_reader_can_hold() {
        for (text, is_valid) in [
            ("7", true),
            (r#""a\u00e9""#, true),
            ("null", true),
            ("1e999", false),
            ("[1]", false),
            ("{}", false),
        ] {
            let raw: &RawValue = serde_json::from_str(text).expect("JSON");
            assert_eq!(request_id(Some(raw)), is_valid.then_some(text));
        }
        assert_eq!(request_id(None), None);
    }
}
