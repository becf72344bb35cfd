//! Holds what all writes of one client request share.
//!
//! What must hold: no event of the request is appended after its deadline. Once one is stored, a failure is answered
//! `outcome_unknown`: after "not stored" the client would start again under another key and do a part of it twice.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use protocol::{
    error::{Error, ErrorCode},
    event::header,
};
use tokio::time::Instant;

use crate::commands::state::APPEND_TIMEOUT;

/// Whether an event of the request is stored, shared by all clones of its context.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteProgress(Arc<AtomicBool>);

impl WriteProgress {
    /// Records that an event of the request is stored.
    pub(crate) fn note_stored(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether an event of the request is stored.
    pub(crate) fn has_stored(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns the error to answer: after an event was stored, a server error leaves the outcome unknown.
    pub(crate) fn client_error(&self, error: Error) -> Error {
        if self.has_stored() && error.code.status() >= 500 { Self::outcome_unknown() } else { error }
    }

    /// Returns the error for a request of which only a part is known to be stored.
    pub(crate) fn outcome_unknown() -> Error {
        let detail = "A part of the request is stored. Try again under the same key to complete it.";
        Error::new(ErrorCode::OutcomeUnknown, detail)
    }
}

/// The context of a request that may write.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext<'a> {
    /// The client's key: requests with one key are done once.
    pub(crate) idempotency_key: Option<&'a str>,
    /// The match socket's own id for its request, an ASCII JSON scalar. It is pushed with the events of the request.
    pub(crate) client_request_id: Option<&'a str>,
    /// No event is appended after it.
    pub(crate) deadline: Instant,
    /// Whether an event is stored.
    pub(crate) progress: WriteProgress,
}

impl<'a> RequestContext<'a> {
    /// Creates the context of a client's request.
    pub(crate) fn new(key: Option<&'a str>, deadline: Instant) -> Self {
        Self { idempotency_key: key, client_request_id: None, deadline, progress: WriteProgress::default() }
    }

    /// Creates the context of a write by this node itself, which starts now and is not repeated.
    pub(crate) fn internal() -> Self {
        Self::new(None, Instant::now() + APPEND_TIMEOUT)
    }

    /// Returns the headers for the events of the request.
    pub(crate) fn event_headers(&self) -> Vec<(&'static str, String)> {
        self.client_request_id.map(|id| (header::REQUEST_ID, id.to_owned())).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_after_something_was_stored_leaves_the_outcome_unknown() {
        let progress = WriteProgress::default();
        let not_stored = Error::new(ErrorCode::NotStored, "No leader.");
        assert_eq!(progress.client_error(not_stored.clone()), not_stored);
        progress.note_stored();
        assert_eq!(progress.client_error(not_stored).code, ErrorCode::OutcomeUnknown);
        let database = Error::new(ErrorCode::Unavailable, "No database.");
        assert_eq!(progress.client_error(database).code, ErrorCode::OutcomeUnknown);
        let reused = Error::new(ErrorCode::KeyReused, "Another request.");
        assert_eq!(progress.client_error(reused.clone()), reused, "a refusal stays what it is");
    }
}
