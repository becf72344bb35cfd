//! The public surfaces: each a room of the same shape, with its own wire types and errors, over the
//! same commands. A dialect imports no other.

pub(crate) mod direct;
mod http;
mod json;
pub(crate) mod match_rooms;
pub(crate) mod native;
mod path;
pub(crate) mod support;
pub(crate) mod topics;

pub(crate) use http::{REQUEST_TIMEOUT, RequestArrival};

use axum::{
    http::Uri,
    response::{IntoResponse as _, Response},
};
use protocol::error::{Error, ErrorCode};

/// A refusal in the form of the dialect that the address is of.
pub(crate) fn rejection(path: &str, error: Error) -> Response {
    if path.starts_with(support::PREFIX) {
        support::Rejection(error).into_response()
    } else if direct::owns_path(path) {
        direct::Rejection(error).into_response()
    } else if topics::owns_path(path) {
        topics::rejection_response(&error)
    } else {
        native::Rejection(error).into_response()
    }
}

/// The same, of a method that the address does not take.
pub(crate) fn method_not_allowed(address: &Uri) -> Response {
    let detail = "This address does not take that method.";
    rejection(address.path(), Error::new(ErrorCode::MethodNotAllowed, detail))
}
