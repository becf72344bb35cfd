//! Limits how much an address, a person or a socket may ask of a node.
//!
//! What must hold: a request that a limit refuses has changed nothing. Callers with `is_admin` (the host application)
//! are exempt from the limits on frames, signals and sockets, but not from the one on channels, which bounds memory.

use std::net::IpAddr;

use protocol::{
    caller::Caller,
    error::{Error, ErrorCode},
    id::UserId,
};
use service::rate::{ConcurrencyLimit, KeyedRateLimit, Rate, refusals};

use crate::config::LimitArgs;

/// The limits of a node.
pub(crate) struct SocketLimits {
    /// Handshakes from an address.
    pub(crate) upgrades: KeyedRateLimit<IpAddr>,
    /// Frames that a socket sends.
    pub(crate) frames: Rate,
    /// Channels that a socket follows at a time.
    pub(crate) channels: ConcurrencyLimit,
    /// Signals from one person to another.
    signals: KeyedRateLimit<(UserId, UserId)>,
}

impl SocketLimits {
    /// Creates the limits as configured.
    pub(crate) fn new(args: &LimitArgs) -> Self {
        Self {
            upgrades: KeyedRateLimit::new("upgrades", args.rate_upgrades),
            frames: args.rate_frames,
            channels: args.channels_socket,
            signals: KeyedRateLimit::new("signals", args.rate_signals),
        }
    }

    /// Counts a signal from `caller` to `user`.
    ///
    /// # Errors
    /// 429 if it is one too many, with the time to wait.
    pub(crate) fn count_signal(&self, caller: &Caller, user: &UserId) -> Result<(), Error> {
        if caller.is_admin {
            return Ok(());
        }
        self.signals.count(&(caller.user.clone(), user.clone()))
    }

    /// Checks that a socket which follows `followed` channels may follow one more.
    ///
    /// # Errors
    /// 429 if it may not.
    pub(crate) fn require_channel_below_limit(&self, followed: usize) -> Result<(), Error> {
        let ConcurrencyLimit(most) = self.channels;
        if followed < most {
            return Ok(());
        }
        refusals("channels").increment(1);
        let detail = format!("A socket may follow {most} channels at most. Leave one first.");
        Err(Error::new(ErrorCode::RateLimited, detail))
    }
}
