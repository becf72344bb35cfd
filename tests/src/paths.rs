//! Spells the paths of the native dialect, for tests.

use std::fmt::Display;

/// The list of rooms; a `POST` creates one.
pub const ROOMS: &str = "/api/v1/rooms";

/// The list of teams; a `POST` creates one.
pub const TEAMS: &str = "/api/v1/teams";

/// The caller's open invitations.
pub const INVITATIONS: &str = "/api/v1/invitations";

/// The search for messages.
pub const SEARCH: &str = "/api/v1/messages/search";

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

/// A team.
pub fn team(team: impl Display) -> String {
    format!("{TEAMS}/{team}")
}

/// The members of a team.
pub fn team_members(team: impl Display) -> String {
    format!("{TEAMS}/{team}/members")
}

/// A member of a team.
pub fn team_member(team: impl Display, user: impl Display) -> String {
    format!("{TEAMS}/{team}/members/{user}")
}

/// Accepts an invitation.
pub fn accept(invitation: impl Display) -> String {
    format!("{INVITATIONS}/{invitation}/accept")
}

/// Declines an invitation.
pub fn decline(invitation: impl Display) -> String {
    format!("{INVITATIONS}/{invitation}/decline")
}

/// A person.
pub fn user(user: impl Display) -> String {
    format!("/api/v1/users/{user}")
}

/// A person's presence.
pub fn presence(user: impl Display) -> String {
    format!("/api/v1/users/{user}/presence")
}

/// A search with this query, as `q=tea&limit=5`.
pub fn search(query: impl Display) -> String {
    format!("{SEARCH}?{query}")
}
