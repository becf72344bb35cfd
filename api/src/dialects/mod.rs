//! The public surfaces: each a room of the same shape, with its own wire types and errors, over the
//! same commands. A dialect imports no other.

pub(crate) mod matches;
pub(crate) mod native;
mod read;
