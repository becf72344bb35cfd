//! The public surfaces: each a room of the same shape, with its own wire types and errors, over the
//! same commands. A dialect imports no other.

pub(crate) mod direct;
mod http;
pub(crate) mod match_rooms;
pub(crate) mod native;
mod read;
pub(crate) mod support;
pub(crate) mod topics;

pub(crate) use http::{REQUEST_TIMEOUT, RequestArrival};

use axum::{
    http::Uri,
    response::{IntoResponse as _, Response},
};
use protocol::error::{Error, ErrorCode};

/// A refusal in the form of the dialect that the address is of.
pub(crate) fn refusal(path: &str, error: Error) -> Response {
    if path.starts_with(support::PREFIX) {
        support::Refusal(error).into_response()
    } else if direct::owns(path) {
        direct::Refusal(error).into_response()
    } else if topics::has(path) {
        topics::refuse(&error)
    } else {
        native::Problem(error).into_response()
    }
}

/// The same, of a method that the address does not take.
pub(crate) fn not_allowed(address: &Uri) -> Response {
    let detail = "This address does not take that method.";
    refusal(address.path(), Error::new(ErrorCode::MethodNotAllowed, detail))
}
