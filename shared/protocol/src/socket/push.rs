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

/// A person writes something.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TypingPush<'a> {
    /// Who.
    pub user: &'a UserId,
    /// Where.
    pub room: RoomId,
}

/// A person sends data to another.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SignalPush<'a> {
    /// Who.
    pub user: &'a UserId,
    /// What.
    #[schemars(with = "Value")]
    pub data: &'a RawValue,
}

/// How many people have come and gone in a big room; or everyone who is in a room, once that is known.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PresencePush<'a> {
    /// How many are there.
    pub count: usize,
    /// How many have come since the last push without being named.
    pub joined: u64,
    /// How many have gone without being named.
    pub left: u64,
    /// Everyone who is there: replaces what the client knows. Only where people are named from now on, and the
    /// client could not know their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participants: Option<&'a BTreeSet<UserId>>,
}

/// A right has ended: the socket follows the channel no more.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UnsubscribedPush {
    /// Why.
    pub reason: &'static str,
}

/// Of each shard its epoch and the last event up to which the socket has all there is.
pub type Positions = Vec<(u64, u64)>;

/// Whether one is published by a node for all nodes; the others a node tells its own sockets.
#[must_use]
pub fn is_published(event: &str) -> bool {
    matches!(event, live::TYPING | live::SIGNAL)
}

/// All of a channel, with what each says and its form.
pub const ALL: &[(&str, &str, SchemaFn)] = &[
    (live::TYPING, "A person writes something in a room.", SchemaGenerator::subschema_for::<TypingPush<'_>>),
    (live::SIGNAL, "A person sends data to another.", SchemaGenerator::subschema_for::<SignalPush<'_>>),
    (
        live::PRESENCE,
        "How many people have come and gone in a big room, or everyone who is in a room, once that is known.",
        SchemaGenerator::subschema_for::<PresencePush<'_>>,
    ),
    (live::UNSUBSCRIBED, "Your right has ended.", SchemaGenerator::subschema_for::<UnsubscribedPush>),
];
