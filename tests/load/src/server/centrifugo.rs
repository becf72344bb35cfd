//! Speaks Centrifugo's JSON protocol: sockets subscribe to a channel, and a backend publishes by HTTP. `tests/peers`
//! configures the server.

use std::net::SocketAddr;

use super::{FrameMeaning, JoinAnswer, NewPost, PostRoute, SocketIndex, TestedServer, parse_json};
use crate::http;

/// The backend's key.
const KEY_HEADER: &str = "X-API-Key: load\r\n";
/// The id of the command by which a socket subscribes.
const SUBSCRIBE_ID: u64 = 2;

pub(super) struct CentrifugoServer(pub(super) Vec<SocketAddr>);

impl TestedServer for CentrifugoServer {
    fn handshake_parts(&self, _: SocketIndex) -> (String, String) {
        ("/connection/websocket".to_owned(), String::new())
    }

    fn join_frames(&self, index: SocketIndex) -> Vec<String> {
        let subscribe = format!(r#"{{"id":{SUBSCRIBE_ID},"subscribe":{{"channel":"room-{}"}}}}"#, index.room);
        vec![r#"{"id":1,"connect":{}}"#.to_owned(), subscribe]
    }

    /// A frame may have several replies and pushes, one on each line.
    fn can_mix_in_one_frame(&self) -> bool {
        true
    }

    fn interpret(&self, _: SocketIndex, frame: &[u8]) -> FrameMeaning {
        for line in frame.split(|byte| *byte == b'\n') {
            let reply = parse_json(line);
            if reply.as_object().is_some_and(serde_json::Map::is_empty) {
                // A ping.
                return FrameMeaning::Respond("{}".to_owned());
            }
            if reply["error"].is_object() || reply["push"]["disconnect"].is_object() {
                return FrameMeaning::Refused(String::from_utf8_lossy(line).into_owned());
            }
            if reply["id"] == SUBSCRIBE_ID {
                return FrameMeaning::Joined(JoinAnswer::default());
            }
        }
        FrameMeaning::Nothing
    }

    fn post_route(&self) -> PostRoute {
        PostRoute::Http(self.0.clone())
    }

    fn write_post(&self, out: &mut Vec<u8>, post: NewPost<'_>) {
        let body = format!(r#"{{"channel":"room-{}","data":"{}"}}"#, post.room, post.text);
        http::write_request(out, "POST", "/api/publish", KEY_HEADER, body.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centrifugo_frames_have_one_reply_a_line() {
        let server = CentrifugoServer(vec![]);
        let interpret = |frame: &str| server.interpret(SocketIndex { socket: 0, room: 3 }, frame.as_bytes());
        assert_eq!(interpret("{}"), FrameMeaning::Respond("{}".to_owned()));
        let connected = r#"{"id":1,"connect":{"client":"a","version":"6.9.1","ping":25,"pong":true}}"#;
        assert_eq!(interpret(connected), FrameMeaning::Nothing);
        let both = format!("{connected}\n{}", r#"{"id":2,"subscribe":{}}"#);
        assert_eq!(interpret(&both), FrameMeaning::Joined(JoinAnswer::default()));
        let refused = r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#;
        assert_eq!(interpret(refused), FrameMeaning::Refused(refused.to_owned()));
    }
}
