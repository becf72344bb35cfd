//! Tracks whether a connection's last request has a body that was not read to its end.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::Response,
};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

/// The flag of one connection, whose requests follow each other.
#[derive(Clone, Debug, Default)]
pub(super) struct UnreadBody(Arc<AtomicBool>);

impl UnreadBody {
    /// The flag of a connection whose input is never read.
    pub(super) fn always() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Whether the last request has a body that was not read to its end.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Sets the flag if a request has a body, and clears it when the body is read to its end.
    pub(super) fn track(&self, body: Incoming) -> Body {
        let is_empty = body.is_end_stream();
        self.0.store(!is_empty, Relaxed);
        if is_empty { Body::empty() } else { Body::new(TrackedBody { body, unread: self.clone() }) }
    }

    /// Announces in a refusal that the connection ends with it, if the request's body was not read to its end: the rest
    /// of the body is discarded, and then the connection is closed.
    pub(super) fn announce_close(&self, response: &mut Response) {
        let status = response.status();
        if self.is_set() && (status.is_client_error() || status.is_server_error()) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

struct TrackedBody {
    body: Incoming,
    unread: UnreadBody,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.unread.0.store(false, Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
