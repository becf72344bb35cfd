//! Implements the match dialect: the seven actions of `ws /ws/chat/`, and of `ws /ws/admin-chat/` for admins.
//!
//! A socket is in one room at a time. Sending, editing and deleting messages are answered by the event's push,
//! which everyone in the room gets in the same envelope.

pub(crate) mod socket;
mod wire;
