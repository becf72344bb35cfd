//! Decides which web pages may use the service: the `Origin` of a request, against the host that it asks.
//!
//! What must hold: a host name that is not configured is never an allowed origin, even if the request is for that very
//! host, since any page can bind its name to our address (DNS rebinding). An IP address, or `localhost`, can't be
//! bound.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use axum::http::{HeaderMap, header};
use url::Url;

/// An origin, as browsers write it: a scheme, a host, and a port unless it is the scheme's default (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "must be an origin as browsers write it, such as https://chat.example.com";
        if !text.contains("://") {
            return Err(FORM);
        }
        let url = Url::parse(text).map_err(|_| FORM)?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(FORM)?;
        if matches!(url.scheme(), "ws" | "wss") {
            return Err(FORM);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must name no user");
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("must end with its host or port: an origin has no path");
        }
        if host.contains('*') {
            return Err("must name one host: * is not supported");
        }
        Ok(Self { scheme: url.scheme().to_owned(), host: host.to_ascii_lowercase(), port: url.port() })
    }
}

impl Origin {
    /// Whether the origin's host is an IP address, and a request for `host` is for that very origin.
    fn is_address_of(&self, host: &str) -> bool {
        let requested = || format!("{}://{host}", self.scheme).parse::<Self>();
        is_ip_address(&self.host) && requested().is_ok_and(|requested| requested == *self)
    }
}

/// Whether the host of a URL is this machine's own name or address.
pub(crate) fn is_this_machine(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

/// Whether the host of a URL is an IP address, with brackets around one of version 6.
fn is_ip_address(host: &str) -> bool {
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    v6.map_or_else(|| host.parse::<Ipv4Addr>().is_ok(), |v6| v6.parse::<Ipv6Addr>().is_ok())
}

/// Whether a host, with or without a port, is an IP address or `localhost`, neither of which a stranger can bind.
#[must_use]
pub fn is_rebinding_safe(host: &str) -> bool {
    let origin: Result<Origin, _> = format!("http://{host}").parse();
    origin.is_ok_and(|origin| is_this_machine(&origin.host) || is_ip_address(&origin.host))
}

/// Origins, separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<Origin>);

impl FromStr for Origins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let origins = entries.map(|entry| entry.parse().map_err(|error| format!("{entry}: {error}")));
        Ok(Self(origins.collect::<Result<_, _>>()?))
    }
}

/// Web pages that may use the service from a browser.
#[derive(Clone, Debug, clap::Args)]
pub struct OriginArgs {
    /// Allowed origins such as `https://chat.example.com`, separated by commas. If unset: those of this machine
    /// (localhost, 127.0.0.1 and ::1, on every port), and the service's own if it is addressed by its IP address.
    #[arg(long, env = "ROOMCAST_ALLOWED_ORIGINS", default_value = "", hide_default_value = true)]
    pub allowed_origins: Origins,
}

impl OriginArgs {
    /// Whether to serve a request with these headers for `host`. One without `Origin` is served: no web page sent it.
    #[must_use]
    pub fn allows(&self, headers: &HeaderMap, host: Option<&str>) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(first) = origins.next() else { return true };
        let origin = first.to_str().ok().and_then(|text| text.parse::<Origin>().ok());
        let Some(origin) = origin.filter(|_| origins.next().is_none()) else { return false };
        let Origins(allowed) = &self.allowed_origins;
        if !allowed.is_empty() {
            return allowed.contains(&origin);
        }
        is_this_machine(&origin.host) || host.is_some_and(|host| origin.is_address_of(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(allowed: &str) -> OriginArgs {
        OriginArgs { allowed_origins: allowed.parse().expect("origins") }
    }

    fn allows(args: &OriginArgs, origin: &str, host: &str) -> bool {
        let headers = HeaderMap::from_iter([(header::ORIGIN, origin.parse().expect("a header"))]);
        args.allows(&headers, Some(host))
    }

    #[test]
    fn origin_check_without_a_list_allows_this_machine_and_the_own_address() {
        let no_list = args("");
        for origin in [
            "http://localhost:3000",
            "http://127.0.0.1",
            "http://[::1]:80",
            "HTTP://LocalHost",
            "http://192.168.1.5:8080",
            "capacitor://localhost",
        ] {
            assert!(allows(&no_list, origin, "192.168.1.5:8080"), "{origin}");
        }
        for (origin, host) in [
            ("https://10.0.0.1", "10.0.0.1:443"),
            ("http://10.0.0.1:80", "10.0.0.1"),
            ("http://[fd00::1]", "[FD00:0::1]"),
        ] {
            assert!(allows(&no_list, origin, host), "{origin}");
        }
        for (origin, host) in [
            ("https://host.example.com", "host.example.com"),
            ("https://evil.example", "192.168.1.5"),
            ("http://192.168.1.5", "192.168.1.5:8080"),
            ("http://192.168.1.6", "192.168.1.5"),
            ("http://localhost.evil.com", "localhost.evil.com"),
            ("http://127.0.0.1.evil.com:80", "127.0.0.1.evil.com"),
            ("null", "null"),
            ("", ""),
        ] {
            assert!(!allows(&no_list, origin, host), "{origin}");
        }
        assert!(
            no_list.allows(&HeaderMap::new(), None),
            "a request without an Origin is not from a web page"
        );
    }

    #[test]
    fn origin_check_with_a_list_allows_nothing_else() {
        let list = args("https://A.example:443/, http://b.example:8080 ,capacitor://localhost,");
        for origin in
            ["https://a.example", "https://A.EXAMPLE:443", "http://b.example:8080", "capacitor://localhost"]
        {
            assert!(allows(&list, origin, "localhost"), "{origin}");
        }
        for origin in ["http://localhost", "http://a.example", "https://a.example:444", "http://b.example"] {
            assert!(!allows(&list, origin, "localhost"), "{origin}");
        }
        let twice = [(header::ORIGIN, "https://a.example"), (header::ORIGIN, "https://a.example")];
        let mut headers = HeaderMap::new();
        for (name, value) in twice {
            headers.append(name, value.parse().expect("a header"));
        }
        assert!(!list.allows(&headers, None), "two Origin headers are refused");
    }

    #[test]
    fn host_name_is_not_trusted_but_an_address_is() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]", "10.0.0.1"] {
            assert!(is_rebinding_safe(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "", "a b"] {
            assert!(!is_rebinding_safe(host), "{host}");
        }
    }
}
