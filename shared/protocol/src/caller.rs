//! Identifies the person that a request comes from, as their token says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::UserId;

/// The person that a request comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Caller {
    /// The person.
    pub user: UserId,
    /// Whether their token makes them an admin, who has the rights of a creator everywhere.
    pub is_admin: bool,
    /// The organisation whose visitors they answer as a support agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
}
