//! Talks to the WebSocket listener of a nats-server: a room is a subject, and frames carry the NATS protocol.

use std::io::Write as _;

use super::{FrameMeaning, JoinAnswer, NewPost, SocketIndex, TestedServer};
use crate::frame;

pub(super) struct NatsServer;

impl TestedServer for NatsServer {
    fn handshake_parts(&self, _: SocketIndex) -> (String, String) {
        ("/".to_owned(), String::new())
    }

    fn join_frames(&self, index: SocketIndex) -> Vec<String> {
        vec![format!("CONNECT {{\"verbose\":false}}\r\nSUB room.{} 1\r\nPING\r\n", index.room)]
    }

    fn can_mix_in_one_frame(&self) -> bool {
        true
    }

    fn interpret(&self, _: SocketIndex, frame: &[u8]) -> FrameMeaning {
        // PONG or PING may share a frame with messages or with the greeting (INFO), as its first or last line.
        let has_line = |line: &[u8]| frame.starts_with(line) || frame.ends_with(line);
        if has_line(b"PONG\r\n") {
            FrameMeaning::Joined(JoinAnswer::default())
        } else if has_line(b"PING\r\n") {
            FrameMeaning::Respond("PONG\r\n".to_owned())
        } else if frame.starts_with(b"-ERR") {
            FrameMeaning::Refused(String::from_utf8_lossy(frame).trim_end().to_owned())
        } else {
            FrameMeaning::Nothing
        }
    }

    fn opcode(&self) -> u8 {
        frame::OPCODE_BINARY
    }

    fn write_post(&self, out: &mut Vec<u8>, post: NewPost<'_>) {
        // Writing to a Vec does not fail.
        let _ = write!(out, "PUB room.{} {}\r\n{}\r\n", post.room, post.text.len(), post.text);
    }
}
