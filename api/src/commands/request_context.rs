//! Holds what all writes of one client request share.
//!
//! What must hold: nothing of it is appended after its deadline. Once an event of it is stored, a failure is
//! answered `outcome_unknown`: "not stored" would have the client begin anew and do half of it twice.

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

/// Whether an event of a request is stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteProgress(Arc<AtomicBool>);

impl WriteProgress {
    /// An event of the request is stored.
    pub(crate) fn note_stored(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether one is.
    pub(crate) fn has_stored(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The error to answer: a failure after something was stored leaves the outcome unknown.
    pub(crate) fn client_error(&self, error: Error) -> Error {
        if self.has_stored() && error.code.status() >= 500 { Self::outcome_unknown() } else { error }
    }

    /// What is answered where only a part of a request is known to be stored.
    pub(crate) fn outcome_unknown() -> Error {
        let detail = "A part of the request is stored. Try again under the same key to complete it.";
        Error::new(ErrorCode::OutcomeUnknown, detail)
    }
}

/// A request that may write.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext<'a> {
    /// The client's key: the same request under the same key is done once.
    pub(crate) idempotency_key: Option<&'a str>,
    /// What a match socket's client calls it: a JSON scalar in ASCII, which is pushed with its event.
    pub(crate) client_request_id: Option<&'a str>,
    /// Nothing is appended after it.
    pub(crate) deadline: Instant,
    /// Whether an event of it is stored.
    pub(crate) progress: WriteProgress,
}

impl<'a> RequestContext<'a> {
    /// A request under the client's key, if it has one.
    pub(crate) fn new(key: Option<&'a str>, deadline: Instant) -> Self {
        Self { idempotency_key: key, client_request_id: None, deadline, progress: WriteProgress::default() }
    }

    /// A write of our own that begins now and is not repeated.
    pub(crate) fn internal() -> Self {
        Self::new(None, Instant::now() + APPEND_TIMEOUT)
    }

    /// The headers of the events that it causes.
    pub(crate) fn event_headers(&self) -> Vec<(&'static str, String)> {
        self.client_request_id.map(|id| (header::REQUEST_ID, id.to_owned())).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_after_something_was_stored_leaves_the_outcome_unknown() {
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
