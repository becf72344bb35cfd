//! Limits how much an address, a person or a socket may ask of a node.
//!
//! What must hold: a request that a limit refuses has changed nothing. The host application, whose tokens say
//! `is_admin`, is not counted, except the channels of a socket, which bound its memory.

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
    /// Upgrades of an address.
    pub(crate) upgrades: KeyedRateLimit<IpAddr>,
    /// Frames of each socket.
    pub(crate) frames: Rate,
    /// Channels that a socket follows.
    pub(crate) channels: ConcurrencyLimit,
    signals: KeyedRateLimit<(UserId, UserId)>,
}

impl SocketLimits {
    /// The limits that are configured.
    pub(crate) fn new(args: &LimitArgs) -> Self {
        Self {
            upgrades: KeyedRateLimit::new("upgrades", args.rate_upgrades),
            frames: args.rate_frames,
            channels: args.channels_socket,
            signals: KeyedRateLimit::new("signals", args.rate_signals),
        }
    }

    /// Counts a signal of a person to another.
    ///
    /// # Errors
    /// Where it is one too many.
    pub(crate) fn count_signal(&self, caller: &Caller, user: &UserId) -> Result<(), Error> {
        if caller.is_admin {
            return Ok(());
        }
        self.signals.count(&(caller.user.clone(), user.clone()))
    }

    /// Refuses a socket one channel more where it follows that many.
    ///
    /// # Errors
    /// Where it follows as many as may be.
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
