//! The topics dialect: public chats in categories under `/api/chat/`, and their pictures.
//!
//! Django REST Framework's ways: its bodies in JSON, forms and multipart, its errors word for word, its pages.
//! The statuses are those of the dialect's document: a chat is made with 200, and who may not change one is
//! told so with 400.

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

/// Whether a path is on this surface, known to it or not.
pub(crate) fn owns_path(path: &str) -> bool {
    let below =
        |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    below("/api/chat") || below("/media")
}
