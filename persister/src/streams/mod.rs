//! Manages the log's streams: creates, checks, repairs and trims them.

pub(crate) mod ensure;
pub(crate) mod repair;
pub(crate) mod retention;
pub(crate) mod verify;
