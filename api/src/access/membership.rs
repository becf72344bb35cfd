//! Defines what is known of whether a person is a member of a room or a team.

/// Whether a person is a member, as of all acknowledged events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    Member,
    NotAMember,
    /// Postgres still lacks an acknowledged event that may change the answer.
    Unknown,
}

impl From<bool> for Membership {
    fn from(is_member: bool) -> Self {
        if is_member { Self::Member } else { Self::NotAMember }
    }
}
