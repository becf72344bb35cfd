//! Keeps the log's streams as the configuration asks for them: makes, checks, repairs and trims them.

pub(crate) mod ensure;
pub(crate) mod repair;
pub(crate) mod retention;
pub(crate) mod verify;
