//! Implements the topics dialect: public chats in categories under `/api/chat/`, and their pictures.
//!
//! It behaves like Django REST Framework: bodies in JSON, urlencoded or multipart, the same error texts, the same
//! pages. The statuses are those of the dialect's document: creating a chat answers 200, and changing someone
//! else's answers 400.

mod body;
mod decode;
mod encode;
mod errors;
mod extract;
mod header_parameters;
mod json;
mod multipart;
mod routes;
mod wire;

#[cfg(fuzzing)]
pub(crate) use body::read_any;
pub(crate) use errors::rejection_response;
pub(crate) use routes::routes;

/// Whether a path belongs to this dialect, whether or not it has a route there.
pub(crate) fn owns_path(path: &str) -> bool {
    let below =
        |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    below("/api/chat") || below("/media")
}
