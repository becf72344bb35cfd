//! Implements the direct dialect: rooms of two people under `/room/…`, and cameras under `/webrtc/…`.
//!
//! Every path works with and without a trailing slash. Bodies are JSON whatever their `Content-Type`; errors are
//! `{"detail": "…"}`. Some `GET` requests write, because the dialect's document has them so.

mod decode;
mod encode;
mod errors;
mod extract;
mod room_list_size;
mod routes;
mod wire;

pub(crate) use errors::Rejection;
#[cfg(fuzzing)]
pub(crate) use extract::read_any;
pub(crate) use routes::routes;

/// Whether a path belongs to this dialect.
pub(crate) fn owns_path(path: &str) -> bool {
    matches!(path.trim_start_matches('/').split('/').next(), Some("room" | "webrtc"))
}
