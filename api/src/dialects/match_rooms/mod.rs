//! The match dialect: the seven actions of `ws /ws/chat/`, and admins on `ws /ws/admin-chat/`.
//!
//! One room at a time. What is done to a message is answered by its push, which everyone in the room gets
//! in the same envelope.

pub(crate) mod socket;
mod wire;
