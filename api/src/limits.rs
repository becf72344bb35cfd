//! Limits how many requests a person, an address or a room may make on one node.
//!
//! What must hold: a request that a limit refuses has changed nothing. Limits by person do not count the host
//! application, whose tokens have `is_admin`.

use std::net::IpAddr;

use protocol::{
    caller::Caller,
    error::{Error, ErrorCode},
    id::{RoomId, UserId},
};
use service::rate::{KeyedConcurrencyLimit, KeyedRateLimit, Permit};

use crate::config::RequestLimitArgs;

/// The limits of one node.
pub(crate) struct ApiLimits {
    /// Requests of an address.
    pub(crate) requests_by_address: KeyedRateLimit<IpAddr>,
    /// Support rooms that an address creates without a token.
    pub(crate) visitor_rooms: KeyedRateLimit<IpAddr>,
    /// Concurrent searches of a person.
    searches_by_person: KeyedConcurrencyLimit<UserId>,
    writes: KeyedRateLimit<UserId>,
    invitations: KeyedRateLimit<(UserId, UserId)>,
    visitor_writes: KeyedRateLimit<IpAddr>,
    visited_rooms: KeyedRateLimit<RoomId>,
}

impl ApiLimits {
    /// Makes the configured limits.
    pub(crate) fn new(args: &RequestLimitArgs) -> Self {
        Self {
            requests_by_address: KeyedRateLimit::new("requests", args.rate_requests),
            visitor_rooms: KeyedRateLimit::new("visitor_rooms", args.rate_visitor_rooms),
            searches_by_person: KeyedConcurrencyLimit::new("searches", args.searches_person),
            writes: KeyedRateLimit::new("writes", args.rate_writes),
            invitations: KeyedRateLimit::new("invitations", args.rate_invitations),
            visitor_writes: KeyedRateLimit::new("visitor_writes", args.rate_writes),
            visited_rooms: KeyedRateLimit::new("visited_rooms", args.rate_writes),
        }
    }

    /// Counts a write of a person.
    ///
    /// # Errors
    /// Answers 429 above the limit.
    pub(crate) fn count_write(&self, caller: &Caller) -> Result<(), Error> {
        if caller.is_admin { Ok(()) } else { self.writes.count(&caller.user) }
    }

    /// Counts an invitation from one person to another.
    ///
    /// # Errors
    /// Answers 429 above the limit.
    pub(crate) fn count_invitation(&self, caller: &Caller, user: &UserId) -> Result<(), Error> {
        if caller.is_admin {
            return Ok(());
        }
        self.invitations.count(&(caller.user.clone(), user.clone()))
    }

    /// Starts a search, which counts until the result is dropped.
    ///
    /// # Errors
    /// Answers 429 above the limit.
    pub(crate) fn start_search(&self, caller: &Caller) -> Result<Option<Permit<UserId>>, Error> {
        if caller.is_admin {
            return Ok(None);
        }
        let detail = "Your previous search is still running. Try again when it has ended.";
        let permit = self.searches_by_person.take(&caller.user);
        permit.map(Some).ok_or_else(|| Error::new(ErrorCode::RateLimited, detail))
    }

    /// Counts a write without a token against the limit of its address.
    ///
    /// # Errors
    /// Answers 429 above the limit.
    pub(crate) fn count_visitor_write(&self, address: Option<IpAddr>) -> Result<(), Error> {
        self.visitor_writes.count_address(address)
    }

    /// Counts a write without a token against the limit of its room. Called only with the room's key, so others can't
    /// use up the limit.
    ///
    /// # Errors
    /// Answers 429 above the limit.
    pub(crate) fn count_visited_room_write(&self, room: RoomId) -> Result<(), Error> {
        self.visited_rooms.count(&room)
    }
}

#[cfg(test)]
mod tests {
    use service::rate::ConcurrencyLimit;

    use super::*;

    #[test]
    fn limits_by_person_do_not_count_the_host_application() {
        let once = "1/h:1".parse().expect("a rate");
        let limits = ApiLimits::new(&RequestLimitArgs {
            rate_writes: once,
            rate_invitations: once,
            searches_person: ConcurrencyLimit(1),
            ..RequestLimitArgs::off()
        });
        let caller = |is_admin| Caller { user: "ann".parse().expect("an id"), is_admin, org_id: None };
        let bob: UserId = "bob".parse().expect("an id");
        for allowed in [true, false] {
            assert!(
                limits.count_write(&caller(true)).is_ok()
                    && limits.count_invitation(&caller(true), &bob).is_ok()
            );
            assert_eq!(limits.count_write(&caller(false)).is_ok(), allowed);
            assert_eq!(limits.count_invitation(&caller(false), &bob).is_ok(), allowed);
        }
        let searches =
            |is_admin| [limits.start_search(&caller(is_admin)), limits.start_search(&caller(is_admin))];
        assert!(searches(true).iter().all(Result::is_ok));
        let [first, second] = searches(false);
        let refused = second.expect_err("one at a time");
        assert_eq!((refused.code.status(), refused.retry_after()), (429, Some(1)));
        assert!(first.is_ok() && limits.start_search(&caller(false)).is_err(), "the first is under way");
        drop(first);
        assert!(limits.start_search(&caller(false)).is_ok());
        let eve = "eve".parse().expect("an id");
        assert!(limits.count_invitation(&caller(false), &eve).is_ok(), "another pair");
    }
}
