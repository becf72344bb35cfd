//! Defines the five client APIs over the same commands. Each dialect has its own routes, wire types and errors.
//!
//! What must hold: no dialect imports another.

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

/// An error response in the format of the dialect that owns the path.
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

/// A 405 response in the format of the dialect that owns the path.
pub(crate) fn method_not_allowed(address: &Uri) -> Response {
    let detail = "This address does not take that method.";
    rejection(address.path(), Error::new(ErrorCode::MethodNotAllowed, detail))
}
