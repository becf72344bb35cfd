//! How often one person, or one address, may ask. Off unless configured.
//!
//! What must hold: memory is bounded however many ask; who is forgotten begins anew. Each node counts on
//! its own.

use std::{
    fmt::{self, Display, Formatter},
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
    str::FromStr,
    sync::Arc,
};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName},
};
use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use metrics::Counter;
use quick_cache::sync::Cache;

use crate::{error::Error, metric_names as names, serve::Peer};

/// Keys that a limit remembers.
const KEYS: usize = 100_000;
/// Turns a limit off.
const OFF: &str = "off";

/// So many a second on average, and so many at once: `5:100`, or `5`, which is `5:5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(Quota);

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (per_second, at_once) = text.split_once(':').unwrap_or((text, text));
        let number = |text: &str| {
            text.parse::<NonZeroU32>()
                .map_err(|_| "must be so many a second, as in 5, and so many at once, as in 5:100")
        };
        Ok(Self(Quota::per_second(number(per_second)?).allow_burst(number(at_once)?)))
    }
}

/// The most that somebody may have of something at a time; `off` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most(pub usize);

impl Most {
    /// No limit.
    pub const OFF: Self = Self(usize::MAX);
}

impl Display for Most {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if *self == Self::OFF { f.write_str(OFF) } else { self.0.fmt(f) }
    }
}

impl FromStr for Most {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            _ if text == OFF => Ok(Self::OFF),
            Ok(most) if most > 0 => Ok(Self(most)),
            _ => Err("must be a number from 1 on, or off"),
        }
    }
}

/// One limit for each key.
#[derive(Debug)]
pub struct Limit<K>(Option<On<K>>);

#[derive(Debug)]
struct On<K> {
    quota: Quota,
    cells: Cache<K, Arc<DefaultDirectRateLimiter>>,
    clock: DefaultClock,
    refused: Counter,
}

impl<K: Clone + Eq + Hash> Limit<K> {
    /// A limit of that name in the metrics; without a rate there is none.
    #[must_use]
    pub fn new(name: &'static str, rate: Option<Rate>) -> Self {
        Self(rate.map(|Rate(quota)| On {
            quota,
            cells: Cache::new(KEYS),
            clock: DefaultClock::default(),
            refused: metrics::counter!(names::RATE_LIMITED_TOTAL, "limit" => name),
        }))
    }

    /// Counts one.
    ///
    /// # Errors
    /// Where it is one too many: says when to come again.
    pub fn count(&self, key: &K) -> Result<(), Error> {
        let Some(on) = &self.0 else { return Ok(()) };
        let cell = on.cells.get(key).unwrap_or_else(|| {
            let cell = Arc::new(RateLimiter::direct(on.quota));
            on.cells.insert(key.clone(), cell.clone());
            cell
        });
        cell.check().map_err(|until| {
            on.refused.increment(1);
            Error::rate_limited(until.wait_time_from(on.clock.now()))
        })
    }
}

/// Where clients are, behind a proxy.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AddressArgs {
    /// The header to whose end the proxy in front writes the client's address, such as x-forwarded-for:
    /// limits count by that. Set it only behind a proxy that always does.
    #[arg(long, env = "ROOMCAST_ADDRESS_HEADER")]
    pub address_header: Option<HeaderName>,
}

impl AddressArgs {
    /// Where a request comes from, as limits count it.
    #[must_use]
    pub fn of(&self, request: &Request) -> IpAddr {
        let told = self.address_header.as_ref().and_then(|name| last(request.headers(), name));
        let peer = request.extensions().get::<Peer>().map(|Peer(address)| *address);
        network(told.or(peer).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
    }
}

impl AddressArgs {
    /// Under which address a connection is counted. `None` for one from this machine, and for all behind a proxy,
    /// which has those of many clients.
    #[must_use]
    pub fn of_connection(&self, peer: IpAddr) -> Option<IpAddr> {
        let is_counted = self.address_header.is_none() && !peer.to_canonical().is_loopback();
        is_counted.then(|| network(peer))
    }

    /// Whether a request comes from a program on this machine, which no proxy has passed on for another.
    #[must_use]
    pub fn is_local(&self, request: &Request) -> bool {
        let headers = request.headers();
        let address = match &self.address_header {
            Some(name) => last(headers, name),
            None if ["forwarded", "x-forwarded-for"].iter().any(|name| headers.contains_key(*name)) => None,
            None => request.extensions().get::<Peer>().map(|Peer(address)| *address),
        };
        address.is_some_and(|address| address.to_canonical().is_loopback())
    }
}

/// What the nearest proxy has written: clients can write only before it.
fn last(headers: &HeaderMap, name: &HeaderName) -> Option<IpAddr> {
    headers.get_all(name).iter().next_back()?.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// An IPv6 client has a whole network to choose addresses from: it counts as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_rate_is_so_many_a_second_and_so_many_at_once() {
        let rate = |text: &str| text.parse::<Rate>();
        assert_eq!(rate("5"), rate("5:5"));
        assert!(rate("5:100").is_ok());
        for bad in ["", "0", "5:0", "5/s", "-1", "5:", "5:1:1"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_key_has_its_own_limit_and_many_are_forgotten() {
        let limit = Limit::new("writes", Some("1:2".parse().expect("a rate")));
        for allowed in [true, true, false] {
            assert_eq!(limit.count(&0).is_ok(), allowed);
        }
        let refused = limit.count(&0).expect_err("too many");
        assert_eq!((refused.code.status(), refused.retry_after()), (429, Some(1)));
        for key in 1..=2 * KEYS {
            assert!(limit.count(&key).is_ok());
        }
        assert!(limit.0.as_ref().is_some_and(|on| on.cells.len() <= KEYS), "memory is bounded");
        let none = Limit::new("writes", None);
        assert!((0..1_000).all(|_| none.count(&0).is_ok()));
    }

    #[test]
    fn connections_of_this_machine_and_of_a_proxy_are_not_counted() {
        let counted = |header: Option<&str>, peer: &str| {
            let args = AddressArgs { address_header: header.map(|name| name.parse().expect("a header")) };
            args.of_connection(peer.parse().expect("an address")).map(|address| address.to_string())
        };
        assert_eq!(counted(None, "10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(counted(None, "::ffff:10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(counted(None, "2001:db8:1:2:3:4:5:6").as_deref(), Some("2001:db8:1:2::"));
        for here in ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(counted(None, here), None, "{here}");
        }
        assert_eq!(counted(Some("x-forwarded-for"), "10.0.0.1"), None);
    }

    #[test]
    fn only_the_nearest_proxy_is_believed() {
        let of = |header: Option<&str>, given: &[&str]| {
            let args = AddressArgs { address_header: header.map(|name| name.parse().expect("a header")) };
            let mut request = Request::builder();
            for value in given {
                request = request.header("x-forwarded-for", *value);
            }
            let mut request = request.body(Body::empty()).expect("a request");
            request.extensions_mut().insert(Peer([10, 0, 0, 1].into()));
            args.of(&request).to_string()
        };
        assert_eq!(of(None, &["1.1.1.1"]), "10.0.0.1", "anybody can write a header");
        let header = Some("x-forwarded-for");
        assert_eq!(of(header, &["1.1.1.1, 2.2.2.2"]), "2.2.2.2");
        assert_eq!(of(header, &["1.1.1.1", "3.3.3.3"]), "3.3.3.3");
        assert_eq!(of(header, &["nonsense"]), "10.0.0.1");
        assert_eq!(of(header, &[]), "10.0.0.1");
        assert_eq!(of(header, &["2001:db8:1:2:3:4:5:6"]), "2001:db8:1:2::");
        assert_eq!(of(header, &["::ffff:1.2.3.4"]), "1.2.3.4");
    }
}
