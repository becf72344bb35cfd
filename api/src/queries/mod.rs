//! The read side: every statement is a SELECT, and each names the shard first.

pub(crate) mod messages;
pub(crate) mod people;
pub(crate) mod rooms;
