//! Spells the paths of the native surface, for tests.

use std::fmt::Display;

/// The list of rooms, where rooms are made too.
pub const ROOMS: &str = "/api/v1/rooms";

/// A room.
pub fn room(room: impl Display) -> String {
    format!("{ROOMS}/{room}")
}

/// The messages of a room.
pub fn messages(room: impl Display) -> String {
    format!("{ROOMS}/{room}/messages")
}

/// A message of a room.
pub fn message(room: impl Display, message: impl Display) -> String {
    format!("{ROOMS}/{room}/messages/{message}")
}

/// The members of a room.
pub fn members(room: impl Display) -> String {
    format!("{ROOMS}/{room}/members")
}

/// A member of a room.
pub fn member(room: impl Display, user: impl Display) -> String {
    format!("{ROOMS}/{room}/members/{user}")
}

/// The people who are in a room now.
pub fn participants(room: impl Display) -> String {
    format!("{ROOMS}/{room}/participants")
}

/// The invitations into a room.
pub fn invitations(room: impl Display) -> String {
    format!("{ROOMS}/{room}/invitations")
}

/// The caller's read mark in a room.
pub fn read_mark(room: impl Display) -> String {
    format!("{ROOMS}/{room}/read")
}
