//! Implements the support dialect: the customer desk under `/api/v2`, by organisation and product.
//!
//! The JSON keeps the spelling that existing clients use: `auther`, `eventId`, `room_room_id`. Every path works
//! with and without a trailing slash. A room's `_id` is its secret key. A write is answered once reads can see it.
//! Errors are `{"success": false, "message": "…"}`.

mod decode;
mod encode;
mod errors;
mod extract;
mod routes;
mod wire;

#[cfg(fuzzing)]
pub(crate) use decode::read_any;
pub(crate) use errors::Rejection;
pub(crate) use extract::PASS_HEADER;
pub(crate) use routes::routes;

/// The path prefix of this dialect.
pub(crate) const PREFIX: &str = "/api/v2/";
