//! Makes the message id of an append: a retry under the same id is stored once.
//!
//! What must hold: no two requests share a name, however their parts are cut.

use std::fmt;

use sha2::{Digest as _, Sha256};

use protocol::{event::EventName, id::UserId, subject::Channel};

/// Names one append for ever: within the broker's window the same id is stored once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsgId([u8; 16]);

impl MsgId {
    /// 128 bits of SHA-256 over the parts, each with its length: no two lists of parts are alike.
    #[must_use]
    pub fn new(user: &UserId, channel: &Channel, event: EventName, key: &str) -> Self {
        Self::hash(&[
            user.as_str().as_bytes(),
            channel.to_string().as_bytes(),
            event.as_str().as_bytes(),
            key.as_bytes(),
        ])
    }

    /// The id of the n-th effect of the request that this id names.
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
    fn no_two_requests_share_an_id() {
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
