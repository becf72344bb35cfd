//! Connects as a client: over REST, and by a socket that checks the order of its pushes.

mod rest;
mod socket;

pub use rest::Rest;
pub use socket::Socket;
