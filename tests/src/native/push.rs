//! Reads the fields of a push.

use std::fmt;

use serde_json::Value;

use super::{number, text};

/// A push to a native socket. Methods that return a field fail the test with the whole push where it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The channel; empty where the push has none.
    pub channel: String,
    /// The event's name; empty where the push has none.
    pub event: String,
    /// The event's data.
    pub data: Value,
    frame: Value,
}

impl From<Value> for Push {
    fn from(frame: Value) -> Self {
        let text = |name: &str| frame[name].as_str().unwrap_or_default().to_owned();
        Self { channel: text("channel"), event: text("event"), data: frame["data"].clone(), frame }
    }
}

impl fmt::Display for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.frame.fmt(f)
    }
}

impl Push {
    /// The whole frame.
    #[must_use]
    pub fn frame(&self) -> &Value {
        &self.frame
    }

    /// The event's id.
    ///
    /// # Panics
    /// When the event is not a stored one.
    #[must_use]
    pub fn id(&self) -> u64 {
        number(&self.frame, "id")
    }

    /// Whether the event is a stored one, which has an id.
    #[must_use]
    pub fn has_id(&self) -> bool {
        self.frame["id"].is_u64()
    }

    /// The text of a message.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn message(&self) -> &str {
        self.data_str("message")
    }

    /// The user of the event.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn user(&self) -> &str {
        self.data_str("user")
    }

    /// The room of the event.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.data_u64("room")
    }

    /// A number in the event's data.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn data_u64(&self, name: &str) -> u64 {
        assert!(self.data[name].is_u64(), "no number {name}: {self}");
        number(&self.data, name)
    }

    /// A text in the event's data.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn data_str(&self, name: &str) -> &str {
        assert!(self.data[name].is_string(), "no text {name}: {self}");
        text(&self.data, name)
    }
}
