//! What must work.

mod conversation;
mod frames;
mod history;
mod large;
mod messages;
mod metrics;
mod participants;
mod resume;
