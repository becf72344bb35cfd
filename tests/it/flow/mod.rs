//! Tests the ways of messages through all services.

mod conversation;
mod deleted;
mod frames;
mod history;
mod keys;
mod large;
mod messages;
mod metrics;
mod one_process;
mod participants;
mod resume;
