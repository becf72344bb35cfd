//! Appends events to the log, each under a message id that makes a repeated append store nothing new.

mod appended;
mod appender;
mod closings;
mod link;
mod msg_id;

pub use appended::{AppendOutcome, LogPosition, DuplicateMismatch, UnverifiedDuplicate};
pub use appender::{AppendRequest, AppendError, Appender};
pub use msg_id::MsgId;
