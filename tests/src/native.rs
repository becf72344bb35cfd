//! Defines typed calls and answers of the native dialect, so that tests need not index JSON.
//!
//! What must hold: a helper that does not say otherwise fails the test with the whole answer when the node refuses, or
//! when a field is missing.

mod answer;
mod page;
mod push;
mod rest;
mod socket;
mod views;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use answer::SocketAnswer;
pub use page::Page;
pub use push::Push;
pub use views::{MessageView, RoomView, SearchPage, Subscription, TeamView};

/// Decodes a JSON value.
///
/// # Panics
/// When it has another form.
#[must_use]
pub fn decode<T: DeserializeOwned>(value: &Value) -> T {
    T::deserialize(value).unwrap_or_else(|error| panic!("{error}: {value}"))
}

/// A field that is a number.
fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no number {name}: {value}"))
}

/// A field that is text.
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no text {name}: {value}"))
}

/// The `id` of a created object.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn id(created: &Value) -> u64 {
    number(created, "id")
}
