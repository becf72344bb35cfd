//! Limits how often a person or an address may do something, and how many of something each may have at a time.
//!
//! What must hold: memory is bounded by a number of keys; a key that was forgotten begins with its whole burst again.
//! Each node counts on its own.

mod concurrency;

pub use concurrency::{KeyedConcurrencyLimit, Permit};

use std::{
    fmt::{self, Display, Formatter},
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::Request,
    http::{Extensions, HeaderMap, HeaderName},
};
use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use metrics::Counter;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::metric_names as names;
use protocol::error::Error;

/// Maximum keys that a limit remembers.
const KEYS_MAX: usize = 100_000;
/// The value that turns a limit off.
const OFF: &str = "off";

/// A rate and a burst: `5:100` is 5 per second on average and 100 at once, and `5` is `5:5`. `60/m` and `60/h` are
/// rates per minute and per hour. `off` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(Option<Quota>);

impl Rate {
    /// No limit.
    pub const OFF: Self = Self(None);
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == OFF {
            return Ok(Self::OFF);
        }
        let number = |text: &str| {
            text.parse::<NonZeroU32>().map_err(
                |_| "must be a rate per second (5), with a burst (5:100), per minute or hour (60/m, 60/h), or off",
            )
        };
        let (rate, burst) = text.split_once(':').map_or((text, None), |(rate, burst)| (rate, Some(burst)));
        let (rate, quota): (_, fn(NonZeroU32) -> Quota) = match rate.split_once('/') {
            Some((rate, "h")) => (rate, Quota::per_hour),
            Some((rate, "m")) => (rate, Quota::per_minute),
            Some((rate, "s")) => (rate, Quota::per_second),
            _ => (rate, Quota::per_second),
        };
        let quota = quota(number(rate)?);
        let burst = burst.map_or(Ok(quota.burst_size()), number)?;
        Ok(Self(Some(quota.allow_burst(burst))))
    }
}

/// Maximum number of something that a key may have at a time; `off` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencyLimit(pub usize);

impl ConcurrencyLimit {
    /// No limit.
    pub const OFF: Self = Self(usize::MAX);
}

impl Display for ConcurrencyLimit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if *self == Self::OFF { f.write_str(OFF) } else { self.0.fmt(f) }
    }
}

impl FromStr for ConcurrencyLimit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            _ if text == OFF => Ok(Self::OFF),
            Ok(max) if max > 0 => Ok(Self(max)),
            _ => Err("must be a number of at least 1, or off"),
        }
    }
}

/// The counter of refusals by the limit with this name.
pub fn refusals(name: &'static str) -> Counter {
    metrics::counter!(names::RATE_LIMITED_TOTAL, "limit" => name)
}

/// A rate limit for each key.
#[derive(Debug)]
pub struct KeyedRateLimit<K>(Option<ActiveLimit<K>>);

#[derive(Debug)]
struct ActiveLimit<K> {
    quota: Quota,
    limiters: Cache<K, Arc<DefaultDirectRateLimiter>>,
    clock: DefaultClock,
    refused: Counter,
}

impl<K: Clone + Eq + Hash> KeyedRateLimit<K> {
    /// Creates a limit with this name in the metrics.
    #[must_use]
    pub fn new(name: &'static str, Rate(quota): Rate) -> Self {
        Self(quota.map(|quota| ActiveLimit {
            quota,
            limiters: Cache::new(KEYS_MAX),
            clock: DefaultClock::default(),
            refused: refusals(name),
        }))
    }

    /// Counts one use of a key.
    ///
    /// # Errors
    /// If it is one too many; the error has the time to wait.
    pub fn count(&self, key: &K) -> Result<(), Error> {
        let Some(limit) = &self.0 else { return Ok(()) };
        let limiter = limit.limiters.get(key).unwrap_or_else(|| {
            let limiter = Arc::new(RateLimiter::direct(limit.quota));
            limit.limiters.insert(key.clone(), limiter.clone());
            limiter
        });
        limiter.check().map_err(|not_until| {
            limit.refused.increment(1);
            Error::rate_limited(not_until.wait_time_from(limit.clock.now()))
        })
    }
}

impl KeyedRateLimit<IpAddr> {
    /// Counts one use of a client's address, if there is one to count by.
    ///
    /// # Errors
    /// If it is one too many; the error has the time to wait.
    pub fn count_address(&self, address: Option<IpAddr>) -> Result<(), Error> {
        address.map_or(Ok(()), |address| self.count(&address))
    }
}

/// A rate limit with a single key, such as a socket: the same algorithm (GCRA) in a third of the memory, since the rate
/// is kept elsewhere.
#[derive(Debug, Default)]
pub struct SingleRateLimit {
    /// When the uses counted so far would be over at the average rate.
    due: Option<Instant>,
}

impl SingleRateLimit {
    /// Counts one use at this rate, for the limit with this name in the metrics.
    ///
    /// # Errors
    /// If it is one too many: how long to wait.
    pub fn count(&mut self, Rate(quota): Rate, name: &'static str) -> Result<(), Duration> {
        let Some(quota) = quota else { return Ok(()) };
        let (now, interval) = (Instant::now(), quota.replenish_interval());
        let due = self.due.map_or(now, |due| due.max(now));
        let ahead = interval * (quota.burst_size().get() - 1);
        match (due - now).checked_sub(ahead).filter(|wait| !wait.is_zero()) {
            Some(wait) => {
                refusals(name).increment(1);
                Err(wait)
            }
            None => {
                self.due = Some(due + interval);
                Ok(())
            }
        }
    }
}

/// Address of the other end of a request's connection: a client, or a proxy in front.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub IpAddr);

/// How to find the addresses of clients behind a proxy.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AddressArgs {
    /// Header to which the proxy in front appends the client's address, such as x-forwarded-for: limits count by this
    /// address. Set it only behind a proxy that always appends it.
    #[arg(long, env = "ROOMCAST_ADDRESS_HEADER")]
    pub address_header: Option<HeaderName>,
}

impl AddressArgs {
    /// The address by which limits count a request. `None` for a request from this machine if no proxy is configured:
    /// it is a developer's, or that of a proxy that does not name its client.
    #[must_use]
    pub fn of_request(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
        let peer = extensions
            .get::<PeerAddress>()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |PeerAddress(address)| *address);
        let address = match &self.address_header {
            Some(name) => nearest_proxy_address(headers, name).unwrap_or(peer),
            None if peer.to_canonical().is_loopback() => return None,
            None => peer,
        };
        Some(counted_network(address))
    }
}

impl AddressArgs {
    /// The address by which a connection is counted. `None` for one from this machine, and for all connections behind a
    /// proxy, since each of these may serve many clients.
    #[must_use]
    pub fn of_connection(&self, peer: IpAddr) -> Option<IpAddr> {
        let is_counted = self.address_header.is_none() && !peer.to_canonical().is_loopback();
        is_counted.then(|| counted_network(peer))
    }

    /// Whether a request comes from a program on this machine, and not from a proxy for another client.
    #[must_use]
    pub fn is_local(&self, request: &Request) -> bool {
        let headers = request.headers();
        let address = match &self.address_header {
            Some(name) => nearest_proxy_address(headers, name),
            None if ["forwarded", "x-forwarded-for"].iter().any(|name| headers.contains_key(*name)) => None,
            None => request.extensions().get::<PeerAddress>().map(|PeerAddress(address)| *address),
        };
        address.is_some_and(|address| address.to_canonical().is_loopback())
    }
}

/// The address that the nearest proxy has appended. Clients can write only before it.
fn nearest_proxy_address(headers: &HeaderMap, name: &HeaderName) -> Option<IpAddr> {
    headers.get_all(name).iter().next_back()?.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// The address or network to count by: an IPv6 client can choose any address of its /64 network.
fn counted_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_has_a_number_a_second_and_a_burst() {
        let rate = |text: &str| text.parse::<Rate>();
        assert_eq!(rate("5"), rate("5:5"));
        assert_eq!(rate("5"), rate("5/s"));
        assert_eq!(rate("60/m"), rate("1:60"));
        assert_eq!(rate("3600/h:5"), rate("1:5"));
        assert_eq!(rate("off"), Ok(Rate::OFF));
        assert!(rate("5:100").is_ok());
        for bad in ["", "0", "5:0", "5/d", "-1", "5:", "5:1:1", "/h", "Off", "0/h"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_key_has_its_own_limit_and_many_are_forgotten() {
        let limit = KeyedRateLimit::new("writes", "1:2".parse().expect("a rate"));
        for allowed in [true, true, false] {
            assert_eq!(limit.count(&0).is_ok(), allowed);
        }
        let refused = limit.count(&0).expect_err("too many");
        assert_eq!((refused.code.status(), refused.retry_after()), (429, Some(1)));
        for key in 1..=2 * KEYS_MAX {
            assert!(limit.count(&key).is_ok());
        }
        assert!(
            limit.0.as_ref().is_some_and(|active| active.limiters.len() <= KEYS_MAX),
            "memory is bounded"
        );
        let no_limit = KeyedRateLimit::new("writes", Rate::OFF);
        assert!((0..1_000).all(|_| no_limit.count(&0).is_ok()));
    }

    #[test]
    fn connections_of_this_machine_and_of_a_proxy_are_not_counted() {
        let counted_address = |header: Option<&str>, peer: &str| {
            let args = AddressArgs { address_header: header.map(|name| name.parse().expect("a header")) };
            args.of_connection(peer.parse().expect("an address")).map(|address| address.to_string())
        };
        assert_eq!(counted_address(None, "10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(counted_address(None, "::ffff:10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(counted_address(None, "2001:db8:1:2:3:4:5:6").as_deref(), Some("2001:db8:1:2::"));
        for loopback in ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(counted_address(None, loopback), None, "{loopback}");
        }
        assert_eq!(counted_address(Some("x-forwarded-for"), "10.0.0.1"), None);
    }

    #[test]
    fn concurrency_limit_is_a_number_or_off() {
        let limit = |text: &str| text.parse::<ConcurrencyLimit>();
        assert_eq!((limit("50"), limit("off")), (Ok(ConcurrencyLimit(50)), Ok(ConcurrencyLimit::OFF)));
        assert_eq!(
            (ConcurrencyLimit(50).to_string(), ConcurrencyLimit::OFF.to_string()),
            ("50".to_owned(), "off".to_owned())
        );
        assert!(["", "0", "-1", "x", "1.5"].iter().all(|bad| limit(bad).is_err()));
    }

    #[test]
    fn single_rate_limit_says_how_long_to_wait() {
        let (mut limit, rate) = (SingleRateLimit::default(), "1/h:3".parse().expect("a rate"));
        assert!((0..3).all(|_| limit.count(rate, "frames").is_ok()));
        for _ in 0..2 {
            let wait = limit.count(rate, "frames").expect_err("too many");
            assert!((3_000..=3_600).contains(&wait.as_secs()), "{wait:?}");
        }
        assert!((0..1_000).all(|_| limit.count(Rate::OFF, "frames").is_ok()));
    }

    #[test]
    fn client_address_is_taken_from_the_nearest_proxy_only() {
        let counted_address = |peer: IpAddr, header: Option<&str>, values: &[&str]| {
            let args = AddressArgs { address_header: header.map(|name| name.parse().expect("a header")) };
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", value.parse().expect("a value"));
            }
            let mut extensions = Extensions::new();
            extensions.insert(PeerAddress(peer));
            args.of_request(&headers, &extensions).map(|address| address.to_string())
        };
        let remote_address = |header, values: &[&str]| {
            counted_address([10, 0, 0, 1].into(), header, values).expect("a remote address is counted")
        };
        assert_eq!(
            remote_address(None, &["1.1.1.1"]),
            "10.0.0.1",
            "a header without a proxy is ignored: any client can write it"
        );
        let header = Some("x-forwarded-for");
        assert_eq!(remote_address(header, &["1.1.1.1, 2.2.2.2"]), "2.2.2.2");
        assert_eq!(remote_address(header, &["1.1.1.1", "3.3.3.3"]), "3.3.3.3");
        assert_eq!(remote_address(header, &["nonsense"]), "10.0.0.1");
        assert_eq!(remote_address(header, &[]), "10.0.0.1");
        assert_eq!(remote_address(header, &["2001:db8:1:2:3:4:5:6"]), "2001:db8:1:2::");
        assert_eq!(remote_address(header, &["::ffff:1.2.3.4"]), "1.2.3.4");
        for loopback in ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"] {
            let peer = loopback.parse().expect("an address");
            assert_eq!(
                counted_address(peer, None, &["1.1.1.1"]),
                None,
                "requests from this machine are not counted"
            );
            assert_eq!(
                counted_address(peer, header, &["1.1.1.1"]).as_deref(),
                Some("1.1.1.1"),
                "clients of a proxy are counted"
            );
            assert!(counted_address(peer, header, &[]).is_some());
        }
    }
}
