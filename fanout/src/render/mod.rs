//! An event becomes one frame per push form, once, for every socket.

pub(crate) mod native;
