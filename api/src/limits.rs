//! How much a person, an address or a room may ask of a node.
//!
//! What must hold: who is refused by a limit has changed nothing. The host application, whose tokens say
//! `is_admin`, is not counted by person.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use metrics::Counter;
use shared::{
    error::{Error, ErrorCode},
    id::{RoomId, UserId},
    metric_names as names,
    rate::{Limit, Most},
    rules::Caller,
};

use crate::config::LimitArgs;

/// The limits of a node.
pub(crate) struct Limits {
    /// Requests of an address.
    pub(crate) requests: Limit<IpAddr>,
    /// Rooms of the customer desk that an address makes without a token.
    pub(crate) visitor_rooms: Limit<IpAddr>,
    /// Searches of a person at a time.
    searches: AtOnce,
    writes: Limit<UserId>,
    invitations: Limit<(UserId, UserId)>,
    visitor_writes: Limit<IpAddr>,
    visited_rooms: Limit<RoomId>,
}

impl Limits {
    /// The limits that are configured.
    pub(crate) fn new(args: &LimitArgs) -> Self {
        Self {
            requests: Limit::new("requests", args.rate_requests),
            visitor_rooms: Limit::new("visitor_rooms", args.rate_visitor_rooms),
            searches: AtOnce::new("searches", args.searches_person),
            writes: Limit::new("writes", args.rate_writes),
            invitations: Limit::new("invitations", args.rate_invitations),
            visitor_writes: Limit::new("visitor_writes", args.rate_writes),
            visited_rooms: Limit::new("visited_rooms", args.rate_writes),
        }
    }

    /// Counts a write of a person.
    ///
    /// # Errors
    /// Where it is one too many.
    pub(crate) fn write(&self, caller: &Caller) -> Result<(), Error> {
        if caller.is_admin { Ok(()) } else { self.writes.count(&caller.user) }
    }

    /// Counts an invitation of a person to another.
    ///
    /// # Errors
    /// Where it is one too many.
    pub(crate) fn invitation(&self, caller: &Caller, user: &UserId) -> Result<(), Error> {
        if caller.is_admin {
            return Ok(());
        }
        self.invitations.count(&(caller.user.clone(), user.clone()))
    }

    /// Begins a search, which is under way until the result is dropped.
    ///
    /// # Errors
    /// Where it is one too many.
    pub(crate) fn search(&self, caller: &Caller) -> Result<Option<UnderWay<'_>>, Error> {
        (!caller.is_admin).then(|| self.searches.begin(&caller.user)).transpose()
    }

    /// Counts a write without token, by the address that it comes from.
    ///
    /// # Errors
    /// Where it is one too many.
    pub(crate) fn visitor_write(&self, address: Option<IpAddr>) -> Result<(), Error> {
        self.visitor_writes.count_address(address)
    }

    /// Counts a write without token in a room whose key was shown: no one else's writes use up what the room has.
    ///
    /// # Errors
    /// Where it is one too many.
    pub(crate) fn visited_room(&self, room: RoomId) -> Result<(), Error> {
        self.visited_rooms.count(&room)
    }
}

/// What a person may have under way at a time. It remembers those alone who have something under way.
struct AtOnce {
    most: Most,
    under_way: Mutex<HashMap<UserId, usize>>,
    refused: Counter,
}

/// Something that a person has under way, until this is dropped.
pub(crate) struct UnderWay<'a> {
    all: &'a AtOnce,
    user: UserId,
}

impl AtOnce {
    fn new(name: &'static str, most: Most) -> Self {
        let refused = metrics::counter!(names::RATE_LIMITED_TOTAL, "limit" => name);
        Self { most, under_way: Mutex::default(), refused }
    }

    /// Begins one of a person's.
    ///
    /// # Errors
    /// Where the person has as many as may be.
    fn begin(&self, user: &UserId) -> Result<UnderWay<'_>, Error> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let count = under_way.entry(user.clone()).or_insert(0);
        if *count >= self.most.0 {
            self.refused.increment(1);
            let detail = "Your search before this one is not over yet. Try again then.";
            return Err(Error::new(ErrorCode::RateLimited, detail));
        }
        *count += 1;
        Ok(UnderWay { all: self, user: user.clone() })
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.all.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = under_way.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_has_so_many_at_once_and_who_has_none_is_forgotten() {
        let (ann, bob): (UserId, UserId) = ("ann".parse().expect("an id"), "bob".parse().expect("an id"));
        let at_once = AtOnce::new("searches", Most(1));
        let first = at_once.begin(&ann).expect("the first");
        let refused = at_once.begin(&ann).err().expect("one too many");
        assert_eq!((refused.code.status(), refused.retry_after()), (429, Some(1)));
        drop(at_once.begin(&bob).expect("somebody else"));
        drop(first);
        assert!(at_once.under_way.lock().expect("no panic").is_empty());
        assert!(at_once.begin(&ann).is_ok());
    }

    #[test]
    fn the_host_application_is_not_counted_by_person() {
        let once = "1/h:1".parse().expect("a rate");
        let limits = Limits::new(&LimitArgs {
            rate_writes: once,
            rate_invitations: once,
            searches_person: Most(1),
            ..LimitArgs::off()
        });
        let caller = |is_admin| Caller { user: "ann".parse().expect("an id"), is_admin, org_id: None };
        let bob: UserId = "bob".parse().expect("an id");
        for allowed in [true, false] {
            assert!(limits.write(&caller(true)).is_ok() && limits.invitation(&caller(true), &bob).is_ok());
            assert_eq!(limits.write(&caller(false)).is_ok(), allowed);
            assert_eq!(limits.invitation(&caller(false), &bob).is_ok(), allowed);
        }
        let searches = |is_admin| [limits.search(&caller(is_admin)), limits.search(&caller(is_admin))];
        assert!(searches(true).iter().all(Result::is_ok));
        assert_eq!(searches(false).map(|search| search.is_ok()), [true, false]);
        let eve = "eve".parse().expect("an id");
        assert!(limits.invitation(&caller(false), &eve).is_ok(), "another pair");
    }
}
