//! Defines the close codes of sockets, whose ranges say whether to reconnect.
//!
//! 4000–4099: do not reconnect. 4100–4199: reconnect after `retry_after_ms`. 4200–4299: reconnect at once, and resume.
//! The other codes are those of RFC 6455.

macro_rules! closes {
    ($($(#[doc = $doc:literal])* $close:ident = $code:literal $name:literal,)*) => {
        /// Why the server closes a socket.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum CloseCode {
            $($(#[doc = $doc])* $close,)*
        }

        impl CloseCode {
            /// All close codes.
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

            /// What the code means, for clients.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$close => concat!($($doc),*),)* }
            }
        }
    };
}

closes! {
    /// The client closed the socket.
    Goodbye = 1000 "goodbye",
    /// The client sent a frame that RFC 6455 forbids.
    Protocol = 1002 "protocol",
    /// The client sent text that is not UTF-8.
    NotUtf8 = 1007 "not_utf8",
    /// The client sent a message above 256 KiB.
    TooBig = 1009 "too_big",
    /// The token has expired: reconnect with another one.
    TokenExpired = 4001 "token_expired",
    /// The node stops: reconnect after `retry_after_ms`, and resume.
    Drain = 4100 "drain",
    /// The socket is old, and its token was checked only at connect: reconnect at once.
    MaxAge = 4101 "max_age",
    /// You read too slowly: reconnect at once, and resume; nothing is lost.
    SlowConsumer = 4200 "slow_consumer",
    /// The node may have missed something that the log no longer has: reconnect at once, and resume.
    Heal = 4201 "heal",
    /// Pings were not answered: reconnect at once.
    Dead = 4202 "dead",
}
