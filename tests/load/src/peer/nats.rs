//! nats-server's own WebSocket listener: a room is a subject, and the broker's protocol lies in frames.

use std::io::Write as _;

use super::{Entry, Peer, Post, Reply, Seat};
use crate::frame;

pub(super) struct Nats;

impl Peer for Nats {
    fn opening(&self, _: Seat) -> (String, String) {
        ("/".to_owned(), String::new())
    }

    fn join(&self, seat: Seat) -> Vec<String> {
        vec![format!("CONNECT {{\"verbose\":false}}\r\nSUB room.{} 1\r\nPING\r\n", seat.room)]
    }

    fn mixes(&self) -> bool {
        true
    }

    fn react(&self, _: Seat, frame: &[u8]) -> Reply {
        // Nothing that is said beside messages is longer, but for the greeting.
        let is_said = |word: &[u8]| frame.starts_with(word) || frame.ends_with(word);
        if is_said(b"PONG\r\n") {
            Reply::Joined(Entry::default())
        } else if is_said(b"PING\r\n") {
            Reply::Answer("PONG\r\n".to_owned())
        } else if frame.starts_with(b"-ERR") {
            Reply::Refused(String::from_utf8_lossy(frame).trim_end().to_owned())
        } else {
            Reply::Nothing
        }
    }

    fn opcode(&self) -> u8 {
        frame::BINARY
    }

    fn post(&self, out: &mut Vec<u8>, post: Post<'_>) {
        // Writing to memory does not fail.
        let _ = write!(out, "PUB room.{} {}\r\n{}\r\n", post.room, post.text.len(), post.text);
    }
}
