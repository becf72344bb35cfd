//! Lets a fan-out node ask the api node of its own process, without the broker in between.

use bytes::Bytes;
use tokio::sync::oneshot;

/// The api node of this process.
pub trait LocalApi: std::fmt::Debug + Send + Sync {
    /// Has a request answered, given its subject and payload as for the broker. `None` if this node takes no requests
    /// now: then the broker may find another. The request is completed even if the receiver is dropped.
    fn request(&self, subject: &str, payload: Bytes) -> Option<oneshot::Receiver<Bytes>>;
}
