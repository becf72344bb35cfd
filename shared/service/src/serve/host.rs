//! Reads the host that a request is for: RFC 9110, section 7.2, and RFC 9112, section 3.2.

use axum::{
    extract::Request,
    http::{Version, header, uri::Authority},
};

use protocol::error::Error;

/// The host of a request, with its port if it names one; `None` if the request names no host.
///
/// # Errors
/// If HTTP/1.1 requires a host and there is none, if there are several, or if it is malformed.
pub fn host(request: &Request) -> Result<Option<&str>, Error> {
    let refuse = || Err(Error::bad_request("Host: must be given once, and be a host."));
    let mut values = request.headers().get_all(header::HOST).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() || (first.is_none() && request.version() >= Version::HTTP_11) {
        return refuse();
    }
    let Some(host) = first.map(|value| value.to_str().unwrap_or("@")).filter(|host| !host.is_empty()) else {
        return Ok(request.uri().authority().map(Authority::as_str));
    };
    let is_host = host.parse().is_ok_and(|host: Authority| {
        let port = host.as_str().strip_prefix(host.host()).and_then(|port| port.strip_prefix(':'));
        !host.as_str().contains(['@', ','])
            && (port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit())))
    });
    // A host in the request's target takes precedence over the header.
    if is_host { Ok(Some(request.uri().authority().map_or(host, Authority::as_str))) } else { refuse() }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn host_of(target: &str, version: Version, hosts: &[&[u8]]) -> Result<Option<String>, Error> {
        let mut request = Request::builder().uri(target).version(version);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let request = request.body(Body::empty()).expect("a request");
        host(&request).map(|host| host.map(str::to_owned))
    }

    #[test]
    fn request_names_exactly_one_host() {
        let http_11 = Version::HTTP_11;
        for good in
            ["localhost", "localhost:80", "localhost:", "[::1]:8081", "10.0.0.1", "xn--bcher-kva.example"]
        {
            assert_eq!(host_of("/", http_11, &[good.as_bytes()]), Ok(Some(good.to_owned())), "{good}");
        }
        for bad in
            ["a b", "a,b", "ann@localhost", "localhost/ws", "localhost:http", "[::1", "a:1:2", "b\u{fc}cher"]
        {
            assert!(host_of("/", http_11, &[bad.as_bytes()]).is_err(), "{bad}");
        }
        assert_eq!(
            host_of("http://a.example:81/ws", http_11, &[b"b.example"]),
            Ok(Some("a.example:81".to_owned()))
        );
        assert_eq!(host_of("/", http_11, &[b""]), Ok(None), "a target without an authority");
        assert_eq!(host_of("/", Version::HTTP_10, &[]), Ok(None));
        assert!(host_of("/", http_11, &[]).is_err());
        assert!(host_of("/", http_11, &[b"localhost", b"localhost"]).is_err());
    }

    proptest! {
        #[test]
        fn any_host_header_is_read_or_refused(bytes in vec(any::<u8>().prop_filter("a header", |b| *b >= 32 && *b != 127), 0..40)) {
            if let Ok(Some(host)) = host_of("/", Version::HTTP_11, &[&bytes]) {
                prop_assert!(!host.contains(['@', '/', ' ', ',', '?', '#']), "{host}");
            }
        }
    }
}
