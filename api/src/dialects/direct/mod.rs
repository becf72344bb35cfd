//! The direct dialect: `/room/…` and `/webrtc/…`, two people who talk, as its clients know it.
//!
//! With and without the trailing slash; JSON in, whatever its type is called, and JSON out; errors are
//! `{"detail": "…"}`; what a `GET` of this document changes is changed by `GET`.

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

/// Whether a path is this dialect's.
pub(crate) fn owns_path(path: &str) -> bool {
    matches!(path.trim_start_matches('/').split('/').next(), Some("room" | "webrtc"))
}
