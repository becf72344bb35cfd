//! Provides the test harness: real servers as child processes on free ports, whole clusters, and clients that
//! check what they receive.
//!
//! What must hold: there are no mocks of servers. No process and no file is left behind. Every wait ends, with a
//! success or with a failure that says what was missing.

pub mod browser;
pub mod certificate;
pub mod client;
pub mod cluster;
pub mod folder;
pub mod golden;
pub mod machine;
pub mod native;
pub mod nats;
pub mod original;
pub mod page;
pub mod paths;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod raw;

use std::{future::Future, time::Duration};

use serde_json::Value;

/// Maximum time of each wait in a test.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Calls `check` every 20 ms until it returns a value. `what` says in the failure's text what was expected.
///
/// # Panics
/// When it returns none within [`TIMEOUT`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut check: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    loop {
        if let Some(answer) = check().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within {TIMEOUT:?}");
        // Polled, because another process's state has no event to wait for.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether an answer has every key of an example, with values of the same JSON types.
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
