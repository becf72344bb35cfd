//! The harness: real servers as children on free ports, a cluster of nodes in one call, and
//! clients that check what they are given.
//!
//! What must hold: nothing here stands in for a server, nothing is left behind, and a wait ends
//! with what was waited for or with a failure that says what was not.

pub mod browser;
pub mod certificate;
pub mod client;
pub mod cluster;
pub mod folder;
pub mod golden;
pub mod machine;
pub mod nats;
pub mod original;
pub mod page;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod raw;

use std::{future::Future, time::Duration};

use serde_json::Value;

/// How long anything may take that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again until there is an answer.
///
/// # Panics
/// When there is none in [`PATIENCE`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        // What is asked has no event to wait for: another process's state.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether an answer has every key of an example, with values of its types.
#[must_use]
pub fn is_like(answer: &Value, example: &Value) -> bool {
    match (answer, example) {
        (Value::Object(answer), Value::Object(example)) => {
            example.iter().all(|(key, value)| answer.get(key).is_some_and(|found| is_like(found, value)))
        }
        (Value::Array(answer), Value::Array(example)) => {
            answer.len() >= example.len()
                && answer.iter().zip(example).all(|(found, value)| is_like(found, value))
        }
        _ => std::mem::discriminant(answer) == std::mem::discriminant(example),
    }
}
