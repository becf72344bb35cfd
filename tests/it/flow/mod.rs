//! What must work.

mod conversation;
mod frames;
mod history;
mod keys;
mod large;
mod messages;
mod metrics;
mod participants;
mod resume;
