//! What must work.

mod conversation;
mod frames;
mod history;
mod messages;
mod metrics;
mod participants;
mod resume;
