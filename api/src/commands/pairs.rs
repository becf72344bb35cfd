//! Rooms of two, of which there is one for each pair.

use sha2::{Digest as _, Sha256};
use shared::id::UserId;

/// What names the room of a pair among all: the same for both orders.
pub(crate) fn key(kind: &str, one: &UserId, other: &UserId) -> String {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    let mut hash = Sha256::new();
    for part in [kind, first.as_str(), second.as_str()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_one_key_and_no_other_pair_has_it() {
        let user = |id: &str| -> UserId { id.parse().expect("an id") };
        assert_eq!(key("match", &user("a"), &user("b")), key("match", &user("b"), &user("a")));
        assert_ne!(key("match", &user("a"), &user("bc")), key("match", &user("ab"), &user("c")));
        assert_ne!(key("match", &user("a"), &user("b")), key("direct", &user("a"), &user("b")));
    }
}
