//! Defines pushes that are never stored: they have no id.

use std::collections::BTreeSet;

use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{
    event::live,
    id::{RoomId, UserId},
    json::SchemaFn,
};

/// A person is typing in a room.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TypingPush<'a> {
    /// Who is typing.
    pub user: &'a UserId,
    /// The room.
    pub room: RoomId,
}

/// A person sends data to another.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SignalPush<'a> {
    /// Who sends it.
    pub user: &'a UserId,
    /// The data.
    #[schemars(with = "Value")]
    pub data: &'a RawValue,
}

/// How many people joined and left in a big room; or everyone who is in a room, once that is known.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PresencePush<'a> {
    /// Number of people in the room now.
    pub count: usize,
    /// How many joined since the last push without being named.
    pub joined: u64,
    /// How many left without being named.
    pub left: u64,
    /// Everyone who is there: replaces what the client knows. Only where people are named from now on, and the
    /// client could not know their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participants: Option<&'a BTreeSet<UserId>>,
}

/// A right has ended: the socket no longer follows the channel.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UnsubscribedPush {
    /// Why the right has ended.
    pub reason: &'static str,
}

/// For each shard its epoch, and the last event up to which the socket has received everything.
pub type Positions = Vec<(u64, u64)>;

/// Whether a push is published by a node for all nodes. The others are sent by a node to its own sockets only.
#[must_use]
pub fn is_published(event: &str) -> bool {
    matches!(event, live::TYPING | live::SIGNAL)
}

/// All pushes of a channel that are never stored, each with its meaning and its form.
pub const ALL: &[(&str, &str, SchemaFn)] = &[
    (live::TYPING, "A person is typing in a room.", SchemaGenerator::subschema_for::<TypingPush<'_>>),
    (live::SIGNAL, "A person sends data to another.", SchemaGenerator::subschema_for::<SignalPush<'_>>),
    (
        live::PRESENCE,
        "How many people joined and left in a big room, or everyone who is in a room, once that is known.",
        SchemaGenerator::subschema_for::<PresencePush<'_>>,
    ),
    (
        live::UNSUBSCRIBED,
        "Your right to follow the channel has ended.",
        SchemaGenerator::subschema_for::<UnsubscribedPush>,
    ),
];
