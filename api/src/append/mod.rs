//! Appends events to the log, each under a message id that makes a repeated append store nothing new.

mod appended;
mod appender;
mod closings;
mod link;
mod msg_id;

pub use appended::{AppendOutcome, DuplicateMismatch, LogPosition, UnverifiedDuplicate};
pub use appender::{AppendError, AppendRequest, Appender};
pub use msg_id::MsgId;
