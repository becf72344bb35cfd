//! Who may do what in a room: the matrix, as code.

use serde::{Deserialize, Serialize};

use crate::{event::RoomKind, id::UserId};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The person.
    pub user: UserId,
    /// Whether their token makes them an admin, who counts as creator everywhere.
    pub is_admin: bool,
}

/// What the rules need to know of a room and the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomFacts {
    /// What sort of room it is.
    pub kind: RoomKind,
    /// Who manages it: who made it, or its team.
    pub manager: UserId,
    /// Whether the caller is a member: of the room, of its team, or one of its two.
    pub is_member: bool,
}

impl RoomFacts {
    /// See, join, read and write.
    #[must_use]
    pub fn may_enter(&self, caller: &Caller) -> bool {
        match self.kind {
            RoomKind::Public => true,
            RoomKind::Private | RoomKind::Team | RoomKind::Match => self.is_member || self.may_manage(caller),
        }
    }

    /// Invite, add, remove, change and close.
    #[must_use]
    pub fn may_manage(&self, caller: &Caller) -> bool {
        // The two of a match did not make it: the host application did.
        caller.is_admin || (self.kind != RoomKind::Match && self.manager == caller.user)
    }
}

/// Who may change a message's text: its author.
impl Caller {
    /// Whether the caller may edit a message of that author.
    #[must_use]
    pub fn may_edit(&self, author: &UserId) -> bool {
        self.user == *author
    }

    /// Whether the caller may delete a message of that author.
    #[must_use]
    pub fn may_delete(&self, author: &UserId) -> bool {
        self.is_admin || self.user == *author
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix() {
        // kind, member, creator, admin -> may enter, may manage
        let table = [
            (RoomKind::Public, false, false, false, true, false),
            (RoomKind::Public, false, true, false, true, true),
            (RoomKind::Public, false, false, true, true, true),
            (RoomKind::Private, false, false, false, false, false),
            (RoomKind::Private, true, false, false, true, false),
            (RoomKind::Private, false, true, false, true, true),
            (RoomKind::Private, false, false, true, true, true),
            (RoomKind::Team, false, false, false, false, false),
            (RoomKind::Team, true, false, false, true, false),
            (RoomKind::Team, false, true, false, true, true),
            (RoomKind::Match, false, false, false, false, false),
            (RoomKind::Match, true, false, false, true, false),
            (RoomKind::Match, false, true, false, false, false),
            (RoomKind::Match, false, false, true, true, true),
        ];
        for (kind, is_member, creates, is_admin, enter, manage) in table {
            let user: UserId = "7".parse().expect("an id");
            let manager = if creates { user.clone() } else { "1".parse().expect("an id") };
            let facts = RoomFacts { kind, manager, is_member };
            let caller = Caller { user, is_admin };
            assert_eq!(facts.may_enter(&caller), enter, "{facts:?} {caller:?}");
            assert_eq!(facts.may_manage(&caller), manage, "{facts:?} {caller:?}");
        }
    }
}
