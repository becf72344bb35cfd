//! Speaks the Pusher protocol: sockets subscribe to a public channel, and a backend triggers the channel's events by
//! signed HTTP requests. `tests/peers` configures the app.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use sha2::Sha256;

use super::{FrameMeaning, JoinAnswer, NewPost, PostRoute, SocketIndex, TestedServer, parse_json};
use crate::http;

/// Id and key of the app.
const APP: &str = "load";
/// The secret that signs the backend's requests.
const SECRET: &str = "load-secret";

pub(super) struct PusherServer(pub(super) Vec<SocketAddr>);

impl TestedServer for PusherServer {
    fn handshake_parts(&self, _: SocketIndex) -> (String, String) {
        (format!("/app/{APP}?protocol=7&client=load&version=1"), String::new())
    }

    fn join_frames(&self, index: SocketIndex) -> Vec<String> {
        vec![format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"room-{}"}}}}"#, index.room)]
    }

    fn interpret(&self, _: SocketIndex, frame: &[u8]) -> FrameMeaning {
        match parse_json(frame)["event"].as_str() {
            Some("pusher_internal:subscription_succeeded") => FrameMeaning::Joined(JoinAnswer::default()),
            Some("pusher:ping") => FrameMeaning::Respond(r#"{"event":"pusher:pong","data":{}}"#.to_owned()),
            Some("pusher:error" | "pusher:subscription_error") => {
                FrameMeaning::Refused(String::from_utf8_lossy(frame).into_owned())
            }
            _ => FrameMeaning::Nothing,
        }
    }

    fn post_route(&self) -> PostRoute {
        PostRoute::Http(self.0.clone())
    }

    fn write_post(&self, out: &mut Vec<u8>, post: NewPost<'_>) {
        let body = format!(r#"{{"name":"said","channel":"room-{}","data":"{}"}}"#, post.room, post.text);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        http::write_request(out, "POST", &signed_path(&body, now), "", body.as_bytes());
    }
}

/// The path of a trigger request, signed; `now` is in seconds since 1970.
fn signed_path(body: &str, now: u64) -> String {
    let path = format!("/apps/{APP}/events");
    let digest = hex(&Md5::digest(body));
    let query = format!("auth_key={APP}&auth_timestamp={now}&auth_version=1.0&body_md5={digest}");
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key of any length");
    mac.update(format!("POST\n{path}\n{query}").as_bytes());
    format!("{path}?{query}&auth_signature={}", hex(&mac.finalize().into_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values were computed by `openssl dgst -md5` and `openssl dgst -sha256 -hmac load-secret`.
    #[test]
    fn pusher_trigger_is_signed() {
        let query = "auth_key=load&auth_timestamp=1763700000&auth_version=1.0&body_md5=99914b932bd37a50b983c5e7c90ae93b";
        let signature = "b70c35bb8bf249aab735b07c1706852c7d700884cdc36d99ae662fb42774278e";
        let expected = format!("/apps/load/events?{query}&auth_signature={signature}");
        assert_eq!(signed_path("{}", 1_763_700_000), expected);
    }
}
