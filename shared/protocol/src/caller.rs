//! Identifies who a request comes from, as its token says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::UserId;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Caller {
    /// The person.
    pub user: UserId,
    /// Whether their token makes them an admin, who counts as creator everywhere.
    pub is_admin: bool,
    /// The organisation whose visitors they answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
}
