//! Reads from Postgres. Every statement is a SELECT, and looks rows up by shard first.

pub(crate) mod direct;
pub(crate) mod invitations;
pub(crate) mod members;
pub(crate) mod message_keys;
pub(crate) mod messages;
pub(crate) mod people;
pub(crate) mod presence;
pub(crate) mod room_lists;
pub(crate) mod rooms;
pub(crate) mod search;
pub(crate) mod search_terms;
pub(crate) mod support;
pub(crate) mod teams;
pub(crate) mod topics;

use protocol::{
    error::{Error, ErrorCode},
    event::RoomKind,
    id::UserId,
};

use crate::database::QueryError;

/// Converts a sequence or an id to what Postgres stores.
pub(crate) fn to_i64(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// Converts a stored sequence or id back; fails if it is negative.
pub(crate) fn to_u64(number: i64) -> Result<u64, QueryError> {
    Ok(u64::try_from(number).map_err(|error| Error::internal(&error))?)
}

/// Parses a stored room kind. A kind that this version does not know was stored by a later version that runs beside
/// it during an upgrade: the answer is 503.
pub(crate) fn parse_kind(name: &str) -> Result<RoomKind, QueryError> {
    let text = "The room is of a kind that this node does not know yet: it is being upgraded. Try again.";
    Ok(RoomKind::parse(name).ok_or_else(|| Error::new(ErrorCode::Unavailable, text))?)
}

/// Parses a stored person's id.
pub(crate) fn parse_user(name: &str) -> Result<UserId, QueryError> {
    Ok(name.parse().map_err(|error| Error::internal(&error))?)
}

/// Parses stored ids of people.
pub(crate) fn parse_users(names: &[String]) -> Result<Vec<UserId>, QueryError> {
    names.iter().map(|name| parse_user(name)).collect()
}
