//! What must work.

mod conversation;
mod deleted;
mod frames;
mod history;
mod keys;
mod large;
mod messages;
mod metrics;
mod participants;
mod resume;
