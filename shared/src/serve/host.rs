//! The host that a request is for: RFC 9110, section 7.2, and RFC 9112, section 3.2.

use axum::{
    extract::Request,
    http::{Version, header, uri::Authority},
};

use crate::error::Error;

/// The host of a request, with its port where it names one; `None` where it names none.
///
/// # Errors
/// Where HTTP/1.1 needs one and there is none, where there are several, and where it is not of the form of one.
pub fn host(request: &Request) -> Result<Option<&str>, Error> {
    let refused = || Err(Error::bad_request("Host: must be there once, and a host."));
    let mut values = request.headers().get_all(header::HOST).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() || (first.is_none() && request.version() >= Version::HTTP_11) {
        return refused();
    }
    let Some(host) = first.map(|value| value.to_str().unwrap_or("@")).filter(|host| !host.is_empty()) else {
        return Ok(request.uri().authority().map(Authority::as_str));
    };
    let is_host = host.parse().is_ok_and(|host: Authority| {
        let port = host.as_str().strip_prefix(host.host()).and_then(|port| port.strip_prefix(':'));
        !host.as_str().contains(['@', ','])
            && (port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit())))
    });
    // A target that names its host counts instead of the header.
    if is_host { Ok(Some(request.uri().authority().map_or(host, Authority::as_str))) } else { refused() }
}
