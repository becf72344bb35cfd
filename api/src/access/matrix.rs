//! Decides who may do what in a room: the matrix of rights, without any I/O.

use protocol::{caller::Caller, event::RoomKind, id::UserId};

/// The kind and the owner of a room, and a caller's membership: the rules of access decide by them alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoomRights {
    /// The kind of the room.
    pub(crate) kind: RoomKind,
    /// The person who manages it: its creator, or its team's creator.
    pub(crate) manager: UserId,
    /// Whether the caller is a member of the room or of its team, or one of its two people.
    pub(crate) is_member: bool,
    /// The organisation that a support room belongs to.
    pub(crate) org_id: Option<String>,
}

impl RoomRights {
    /// Returns whether the caller may see, join, read and write.
    #[must_use]
    pub(crate) fn can_join(&self, caller: &Caller) -> bool {
        self.kind.is_open() || self.is_member || self.can_manage(caller)
    }

    /// Returns whether the caller may invite, add, remove, change and close.
    #[must_use]
    pub(crate) fn can_manage(&self, caller: &Caller) -> bool {
        // A room of two people belongs to both, whoever created it.
        let is_creator = !self.kind.is_pair() && self.manager == caller.user;
        caller.is_admin || is_creator || self.is_agent(caller)
    }

    /// Returns whether the caller is an agent of the room's organisation.
    fn is_agent(&self, caller: &Caller) -> bool {
        self.kind == RoomKind::Support && self.org_id.is_some() && self.org_id == caller.org_id
    }
}

/// Returns whether the caller may edit a message of that author.
#[must_use]
pub(crate) fn can_edit(caller: &Caller, author: &UserId) -> bool {
    caller.user == *author
}

/// Returns whether the caller may delete a message of that author.
#[must_use]
pub(crate) fn can_delete(caller: &Caller, author: &UserId) -> bool {
    caller.is_admin || caller.user == *author
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_follow_the_matrix_of_kinds_and_callers() {
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
            (RoomKind::Direct, false, true, false, false, false),
            (RoomKind::Direct, true, true, false, true, false),
            (RoomKind::Topic, false, false, false, true, false),
            (RoomKind::Topic, false, true, false, true, true),
            (RoomKind::Support, false, false, false, false, false),
            (RoomKind::Support, false, true, false, true, true),
        ];
        for (kind, is_member, creates, is_admin, enter, manage) in table {
            let user: UserId = "7".parse().expect("an id");
            let manager = if creates { user.clone() } else { "1".parse().expect("an id") };
            let rights = RoomRights { kind, manager, is_member, org_id: Some("acme".to_owned()) };
            let caller = Caller { user, is_admin, org_id: None };
            assert_eq!(rights.can_join(&caller), enter, "{rights:?} {caller:?}");
            assert_eq!(rights.can_manage(&caller), manage, "{rights:?} {caller:?}");
            for (org_id, answers) in [("acme", kind == RoomKind::Support), ("other", false)] {
                let agent = Caller { org_id: Some(org_id.to_owned()), ..caller.clone() };
                assert_eq!(rights.can_manage(&agent), manage || answers, "{rights:?} {agent:?}");
            }
        }
    }
}
