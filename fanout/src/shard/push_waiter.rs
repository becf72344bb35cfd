//! Describes a socket that waits for the push of its own event, which is the answer to its action.

use tokio::sync::oneshot;

/// The outcome of the push of a socket's own event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushOutcome {
    /// The socket was pushed the event.
    Pushed,
    /// The socket does not follow the channel any more.
    NotSubscribed,
    /// The channel is being opened anew, or its task has stopped: the event may have been pushed, or may still be.
    Unknown,
}

/// A socket whose answer is the push of its event.
pub(crate) struct PushWaiter {
    /// The socket's number on this node.
    pub(crate) socket_id: u64,
    /// The event.
    pub(crate) seq: u64,
    /// Resolves with the outcome. Dropped if it is not known whether the event was pushed.
    pub(crate) done: oneshot::Sender<PushOutcome>,
}
