//! Reads the fields of an answer over a socket.

use std::fmt;

use serde_json::Value;

use super::number;

/// The answer to an action over a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketAnswer {
    /// `response_status`: an HTTP status.
    pub status: u16,
    /// What the action returns; null in a refusal.
    pub data: Value,
    /// Why the action was refused.
    pub errors: Vec<String>,
    /// The action's name; null where the frame had none.
    pub action: Value,
    /// The client's own id of the request.
    pub request_id: Value,
    frame: Value,
}

impl From<Value> for SocketAnswer {
    /// # Panics
    /// When the frame is no answer.
    fn from(frame: Value) -> Self {
        let status = frame["response_status"].as_u64().and_then(|status| status.try_into().ok());
        let errors = frame["errors"].as_array().and_then(|errors| {
            errors.iter().map(|error| error.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        Self {
            status: status.unwrap_or_else(|| panic!("no response_status: {frame}")),
            errors: errors.unwrap_or_else(|| panic!("no list of errors: {frame}")),
            data: frame["data"].clone(),
            action: frame["action"].clone(),
            request_id: frame["request_id"].clone(),
            frame,
        }
    }
}

impl fmt::Display for SocketAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.frame.fmt(f)
    }
}

impl SocketAnswer {
    /// The whole frame.
    #[must_use]
    pub fn frame(&self) -> &Value {
        &self.frame
    }

    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The id of what the action created.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn id(&self) -> u64 {
        assert!(self.is_success(), "the action succeeds: {self}");
        number(&self.data, "id")
    }

    /// Status and error of a refusal.
    ///
    /// # Panics
    /// When the answer does not have exactly one error.
    #[must_use]
    pub fn refusal(&self) -> (u16, &str) {
        let [error] = &self.errors[..] else { panic!("a refusal has one error: {self}") };
        (self.status, error)
    }
}
