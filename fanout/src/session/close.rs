//! Why a socket is closed: a closed set, and the code's band says whether to come back.
//!
//! 4000–4099: do not come back. 4100–4199: come back after `retry_after_ms`. 4200–4299: come back
//! at once, and resume. Beside them RFC 6455's own.

use super::frame::Violation;

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
    /// The code of the close frame.
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::Goodbye => 1000,
            Self::Violation(Violation::Protocol) => 1002,
            Self::Violation(Violation::NotUtf8) => 1007,
            Self::Violation(Violation::TooBig) => 1009,
            Self::TokenExpired => 4001,
            Self::Drain { .. } => 4100,
            Self::MaxAge => 4101,
            Self::SlowConsumer => 4200,
            Self::Heal => 4201,
            Self::Dead => 4202,
        }
    }

    /// The name of the reason, in metrics and in the close frame.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Goodbye => "goodbye",
            Self::Violation(Violation::Protocol) => "protocol",
            Self::Violation(Violation::NotUtf8) => "not_utf8",
            Self::Violation(Violation::TooBig) => "too_big",
            Self::TokenExpired => "token_expired",
            Self::Drain { .. } => "drain",
            Self::MaxAge => "max_age",
            Self::SlowConsumer => "slow_consumer",
            Self::Heal => "heal",
            Self::Dead => "dead",
        }
    }

    /// The text of the close frame.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Drain { retry_after_ms } => {
                format!(r#"{{"reason":"drain","retry_after_ms":{retry_after_ms}}}"#)
            }
            Self::MaxAge => r#"{"reason":"max_age","retry_after_ms":0}"#.to_owned(),
            other => format!(r#"{{"reason":"{}"}}"#, other.as_str()),
        }
    }
}
