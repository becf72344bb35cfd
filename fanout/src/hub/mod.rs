//! Who follows what on this node: channels with their followers and recent events, and the people
//! who are in rooms here.

pub(crate) mod channel;
mod deliveries;
pub(crate) mod fold;
pub(crate) mod follower;
mod members;
pub(crate) mod presence;
pub(crate) mod rights;
pub(crate) mod ring;
pub(crate) mod rings;
pub(crate) mod sessions;
