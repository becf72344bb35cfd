//! Socket.IO by its WebSocket transport alone: `tests/peers/socketio/server.js` answers `join` and `say`.

use std::io::Write as _;

use super::{Entry, Peer, Post, Reply, Seat};

pub(super) struct SocketIo;

impl Peer for SocketIo {
    fn opening(&self, _: Seat) -> (String, String) {
        ("/socket.io/?EIO=4&transport=websocket".to_owned(), String::new())
    }

    fn join(&self, _: Seat) -> Vec<String> {
        // Into the namespace; into the room once that is answered.
        vec!["40".to_owned()]
    }

    fn react(&self, seat: Seat, frame: &[u8]) -> Reply {
        match frame {
            [b'4', b'0', ..] => Reply::Answer(format!(r#"42["join","{}"]"#, seat.room)),
            b"2" => Reply::Answer("3".to_owned()),
            br#"42["joined"]"# => Reply::Joined(Entry::default()),
            [b'4', b'1' | b'4', ..] => Reply::Refused(String::from_utf8_lossy(frame).into_owned()),
            _ => Reply::Nothing,
        }
    }

    fn post(&self, out: &mut Vec<u8>, post: Post<'_>) {
        // Writing to memory does not fail.
        let _ = write!(out, r#"42["say","{}","{}"]"#, post.room, post.text);
    }
}
