//! Appends events to the log, each under a message id that makes a repeated append store nothing new.

mod appender;
mod closed_rooms;
mod connection;
mod msg_id;
mod outcome;

pub use appender::{AppendError, AppendRequest, Appender};
pub use msg_id::MsgId;
pub use outcome::{AppendOutcome, DuplicateMismatch, LogPosition, UnverifiedDuplicate};
