//! Defines why this node closes a socket, and the close frame that says so.

use protocol::socket::CloseCode;

use crate::encode::frame::Violation;

/// Why the server closes a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The client said goodbye.
    Goodbye,
    /// The client broke the protocol.
    Violation(Violation),
    /// The token has expired.
    TokenExpired,
    /// A socket whose token counts at connect alone is old: its person connects again.
    MaxAge,
    /// The node stops: another one takes over.
    Drain {
        /// How long to wait, in milliseconds, so that not all come back at once.
        retry_after_ms: u64,
    },
    /// The client reads too slowly: nothing is lost to one that resumes.
    SlowConsumer,
    /// The node may have missed something that the log no longer has.
    Heal,
    /// The client does not answer pings.
    Dead,
}

impl CloseReason {
    /// Its place in the closed set.
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
