//! Implements the native dialect: REST under `/api/v1`, and the actions of `ws /ws/`.
//!
//! All bodies are JSON. Errors are RFC 9457 problems with a stable `code`; lists are
//! `{"results": […], "next": cursor or null}`; user ids are always text.

mod decode;
mod encode;
mod errors;
mod extract;
mod pages;
mod routes;
pub(crate) mod socket;
mod wire;

#[cfg(feature = "bench")]
pub(crate) use decode::new_message;
#[cfg(fuzzing)]
pub(crate) use decode::read_any;
pub(crate) use errors::Rejection;
pub(crate) use routes::routes;
