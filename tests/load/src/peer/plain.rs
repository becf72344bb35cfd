//! A server without a protocol: a room is a path, and what one of its sockets sends all of them get.

use super::{Peer, Post, Reply, Seat};

pub(super) struct Plain;

impl Peer for Plain {
    fn opening(&self, seat: Seat) -> (String, String) {
        (format!("/{}", seat.room), String::new())
    }

    fn join(&self, _: Seat) -> Vec<String> {
        Vec::new()
    }

    fn react(&self, _: Seat, _: &[u8]) -> Reply {
        Reply::Nothing
    }

    fn post(&self, out: &mut Vec<u8>, post: Post<'_>) {
        out.extend(post.text.as_bytes());
    }
}
