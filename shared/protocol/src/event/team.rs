//! Defines events of teams and their members.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    id::{TeamId, UserId},
};

/// A team was made. Its id is the event's sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Team {
    /// Its name.
    pub name: String,
    /// Who belongs to it: added as members right after.
    pub users: Vec<UserId>,
    /// Who made it.
    pub user: UserId,
    /// When.
    pub created_at: Timestamp,
}

/// A person belongs to a team, or does not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TeamMember {
    /// Which team.
    pub team: TeamId,
    /// Who.
    pub user: UserId,
    /// Who said so.
    pub by: UserId,
}
