//! Talks to a server without a protocol: a room is a path, and the server forwards each frame to all its sockets.

use super::{FrameMeaning, NewPost, SocketIndex, TestedServer};

pub(super) struct PlainServer;

impl TestedServer for PlainServer {
    fn handshake_parts(&self, index: SocketIndex) -> (String, String) {
        (format!("/{}", index.room), String::new())
    }

    fn join_frames(&self, _: SocketIndex) -> Vec<String> {
        Vec::new()
    }

    fn interpret(&self, _: SocketIndex, _: &[u8]) -> FrameMeaning {
        FrameMeaning::Nothing
    }

    fn write_post(&self, out: &mut Vec<u8>, post: NewPost<'_>) {
        out.extend(post.text.as_bytes());
    }
}
