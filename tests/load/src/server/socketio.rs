//! Speaks Socket.IO over its WebSocket transport only; `tests/peers/socketio/server.js` handles `join` and `say`.

use std::io::Write as _;

use super::{FrameMeaning, JoinAnswer, NewPost, SocketIndex, TestedServer};

pub(super) struct SocketIoServer;

impl TestedServer for SocketIoServer {
    fn handshake_parts(&self, _: SocketIndex) -> (String, String) {
        ("/socket.io/?EIO=4&transport=websocket".to_owned(), String::new())
    }

    fn join_frames(&self, _: SocketIndex) -> Vec<String> {
        // Connects to the namespace. `interpret` joins the room once the server has accepted that.
        vec!["40".to_owned()]
    }

    fn interpret(&self, index: SocketIndex, frame: &[u8]) -> FrameMeaning {
        match frame {
            [b'4', b'0', ..] => FrameMeaning::Respond(format!(r#"42["join","{}"]"#, index.room)),
            b"2" => FrameMeaning::Respond("3".to_owned()),
            br#"42["joined"]"# => FrameMeaning::Joined(JoinAnswer::default()),
            [b'4', b'1' | b'4', ..] => FrameMeaning::Refused(String::from_utf8_lossy(frame).into_owned()),
            _ => FrameMeaning::Nothing,
        }
    }

    fn write_post(&self, out: &mut Vec<u8>, post: NewPost<'_>) {
        // Writing to a Vec does not fail.
        let _ = write!(out, r#"42["say","{}","{}"]"#, post.room, post.text);
    }
}
