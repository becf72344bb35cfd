//! Defines why sockets are closed: a closed set, whose bands of codes say whether to come back.
//!
//! 4000–4099: do not come back. 4100–4199: come back after `retry_after_ms`. 4200–4299: come back
//! at once, and resume. Beside them RFC 6455's own.

macro_rules! closes {
    ($($(#[doc = $doc:literal])* $close:ident = $code:literal $name:literal,)*) => {
        /// Why the server closes a socket.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum CloseCode {
            $($(#[doc = $doc])* $close,)*
        }

        impl CloseCode {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$close),*];

            /// The code of the close frame.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $(Self::$close => $code,)* }
            }

            /// The name of the reason, in metrics and in the close frame.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$close => $name,)* }
            }

            /// What it says to clients.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$close => concat!($($doc),*),)* }
            }
        }
    };
}

closes! {
    /// The client said goodbye.
    Goodbye = 1000 "goodbye",
    /// A frame that RFC 6455 forbids.
    Protocol = 1002 "protocol",
    /// Text that is not UTF-8.
    NotUtf8 = 1007 "not_utf8",
    /// A message above 256 KiB.
    TooBig = 1009 "too_big",
    /// The token has expired: come back with another.
    TokenExpired = 4001 "token_expired",
    /// The node stops: come back after `retry_after_ms`, and resume.
    Drain = 4100 "drain",
    /// A socket whose token counts at connect alone is old: come back at once.
    MaxAge = 4101 "max_age",
    /// You read too slowly: come back at once, and resume; nothing is lost.
    SlowConsumer = 4200 "slow_consumer",
    /// The node may have missed something that the log no longer has: come back at once, and resume.
    Heal = 4201 "heal",
    /// Pings were not answered: come back at once.
    Dead = 4202 "dead",
}
