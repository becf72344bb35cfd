//! The support dialect: the customer desk under `/api/v2`, by organisation and product.
//!
//! The keys are spelled as clients know them: `auther`, `eventId`, `room_room_id`. Paths are taken with and
//! without the slash at their end. A room's `_id` is its key. Answers to writes come when reads can see them;
//! errors are `{"success": false, "message": "…"}`.

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

/// What the addresses of this dialect begin with.
pub(crate) const PREFIX: &str = "/api/v2/";
