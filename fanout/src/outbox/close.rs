//! Defines why this node closes a socket, and the close frame that says so.

use protocol::socket::CloseCode;

use crate::encode::frame::Violation;

/// Why the server closes a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The client closed the socket.
    Goodbye,
    /// The client broke the WebSocket protocol.
    Violation(Violation),
    /// The token has expired.
    TokenExpired,
    /// The socket is old, and its token was checked only at connect: the client reconnects.
    MaxAge,
    /// The node stops: the client reconnects to another one.
    Drain {
        /// Milliseconds that the client waits before it reconnects: random, so that not all reconnect at once.
        retry_after_ms: u64,
    },
    /// The client reads too slowly. It loses nothing if it resumes.
    SlowConsumer,
    /// The socket may lack an event, which this node can't push in its order any more: the client resumes.
    Heal,
    /// The client does not answer pings.
    Dead,
}

impl CloseReason {
    /// The protocol's code for this reason.
    const fn close_code(self) -> CloseCode {
        match self {
            Self::Goodbye => CloseCode::Goodbye,
            Self::Violation(Violation::Protocol) => CloseCode::Protocol,
            Self::Violation(Violation::NotUtf8) => CloseCode::NotUtf8,
            Self::Violation(Violation::TooBig) => CloseCode::TooBig,
            Self::TokenExpired => CloseCode::TokenExpired,
            Self::MaxAge => CloseCode::MaxAge,
            Self::Drain { .. } => CloseCode::Drain,
            Self::SlowConsumer => CloseCode::SlowConsumer,
            Self::Heal => CloseCode::Heal,
            Self::Dead => CloseCode::Dead,
        }
    }

    /// The code of the close frame.
    pub(crate) const fn code(self) -> u16 {
        self.close_code().code()
    }

    /// The name of the reason, in metrics and in the close frame.
    pub(crate) const fn as_str(self) -> &'static str {
        self.close_code().as_str()
    }

    /// The text of the close frame.
    pub(crate) fn reason_text(self) -> String {
        match self {
            Self::Drain { retry_after_ms } => {
                format!(r#"{{"reason":"drain","retry_after_ms":{retry_after_ms}}}"#)
            }
            Self::MaxAge => r#"{"reason":"max_age","retry_after_ms":0}"#.to_owned(),
            other => format!(r#"{{"reason":"{}"}}"#, other.as_str()),
        }
    }
}
