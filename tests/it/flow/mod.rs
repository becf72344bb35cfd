//! What must work.

mod conversation;
mod history;
mod messages;
mod resume;
