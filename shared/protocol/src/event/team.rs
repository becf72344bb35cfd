//! Defines events of teams and their members.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    id::{TeamId, UserId},
};

/// A team was created. Its id is the event's sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Team {
    /// Its name.
    pub name: String,
    /// Its members: they are added right after.
    pub users: Vec<UserId>,
    /// Who created it.
    pub user: UserId,
    /// When it was created.
    pub created_at: Timestamp,
}

/// A person belongs to a team, or no longer belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TeamMember {
    /// The team.
    pub team: TeamId,
    /// The person.
    pub user: UserId,
    /// Who added or removed them.
    pub by: UserId,
}
