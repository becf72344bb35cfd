//! Makes the message id of an append: a retry under the same id is stored once.
//!
//! What must hold: no two requests share a message id, however their parts are split.

use std::fmt;

use sha2::{Digest as _, Sha256};

use protocol::{event::EventName, id::UserId, subject::Channel};

/// The message id of one append: within its duplicate window the broker stores one event for each id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsgId([u8; 16]);

impl MsgId {
    /// Hashes the parts, each with its length, so that no two lists of parts give the same input: 128 bits of
    /// SHA-256.
    #[must_use]
    pub fn new(user: &UserId, channel: &Channel, event: EventName, key: &str) -> Self {
        Self::hash(&[
            user.as_str().as_bytes(),
            channel.to_string().as_bytes(),
            event.as_str().as_bytes(),
            key.as_bytes(),
        ])
    }

    /// Returns the id of the n-th further event of the request that this id names.
    #[must_use]
    pub fn derived(&self, n: u64) -> Self {
        Self::hash(&[&self.0, &n.to_be_bytes()])
    }

    fn hash(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }
}

impl fmt::Display for MsgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::RoomId;

    fn user(id: &str) -> UserId {
        id.parse().expect("an id")
    }

    #[test]
    fn message_ids_of_different_requests_differ() {
        let room = Channel::Room(RoomId(1));
        let id = |u: &str, key: &str| MsgId::new(&user(u), &room, EventName::ChatMessage, key);
        assert_eq!(id("a", "bc"), id("a", "bc"));
        assert_ne!(id("a", "bc"), id("ab", "c"));
        let other = Channel::Room(RoomId(2));
        assert_ne!(id("a", "b"), MsgId::new(&user("a"), &other, EventName::ChatMessage, "b"));
        assert_ne!(id("a", "b").derived(0), id("a", "b").derived(1));
        assert_eq!(id("a", "b").to_string().len(), 32);
    }
}
