//! Checks and answers the opening handshake of a socket (RFC 6455, section 4.2).

use axum::{
    body::HttpBody as _,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header},
    response::{IntoResponse as _, Response},
};
use base64::{
    Engine as _,
    alphabet::STANDARD as ALPHABET,
    engine::{
        GeneralPurpose,
        general_purpose::{PAD, STANDARD},
    },
};
use hyper::upgrade::OnUpgrade;
use protocol::error::{Error, ErrorCode};
use service::serve;
use sha1::{Digest as _, Sha1};

use crate::encode::deflate;

/// The only WebSocket version that the server accepts.
pub(crate) const VERSION: &str = "13";

/// Decodes keys leniently: bits of the last character beyond the 16th byte may be set, as in the example of the RFC.
const KEYS: GeneralPurpose = GeneralPurpose::new(&ALPHABET, PAD.with_decode_allow_trailing_bits(true));

/// Checks the request of a handshake, and returns the `Sec-WebSocket-Accept` of its answer.
///
/// # Errors
/// 400, 405 or 426 if the request is not a valid handshake.
pub(crate) fn accept_key(request: &Request) -> Result<HeaderValue, Error> {
    let headers = request.headers();
    if request.method() != Method::GET {
        let detail = "This address does not take that method.";
        return Err(Error::new(ErrorCode::MethodNotAllowed, detail));
    }
    let is_upgrade = request.version() >= Version::HTTP_11
        && has_token(headers, header::CONNECTION, "upgrade")
        && has_token(headers, header::UPGRADE, "websocket");
    if !is_upgrade || single_value(headers, header::SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        let detail = "This address needs a WebSocket handshake (RFC 6455, version 13).";
        return Err(Error::new(ErrorCode::UpgradeRequired, detail));
    }
    serve::host(request)?;
    if !request.body().is_end_stream() {
        return Err(Error::bad_request("A handshake must have no body."));
    }
    let key = single_value(headers, header::SEC_WEBSOCKET_KEY);
    let Some(key) = key.filter(|key| KEYS.decode(key).is_ok_and(|nonce| nonce.len() == 16)) else {
        return Err(Error::bad_request("Sec-WebSocket-Key: must be given once, and be 16 bytes in base64."));
    };
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    HeaderValue::try_from(STANDARD.encode(hash.finalize())).map_err(|error| Error::internal(&error))
}

/// Whether a client offers compression with parameters that the server accepts.
pub(crate) fn offers_deflate(headers: &HeaderMap) -> bool {
    deflate::is_offered(parts(headers, header::SEC_WEBSOCKET_EXTENSIONS))
}

/// Takes the future of the upgraded connection from a request. It resolves once the answer is sent.
///
/// # Errors
/// If the connection can't be upgraded.
pub(crate) fn take_upgrade(request: &mut Request) -> Result<OnUpgrade, Error> {
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    on_upgrade.ok_or_else(|| Error::bad_request("This connection can't be upgraded."))
}

/// The answer 101, after which the connection is a WebSocket. `deflates` says whether compression is accepted.
pub(crate) fn switching_protocols(accept: HeaderValue, deflates: bool) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if deflates {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(deflate::EXTENSION_ANSWER));
    }
    response
}

/// The subprotocol `bearer`, beside which a client offers its token, as the client spells it: browsers close a socket
/// if the answer is spelled differently.
pub(crate) fn subprotocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut offers = parts(headers, header::SEC_WEBSOCKET_PROTOCOL);
    offers
        .find(|offer| offer.eq_ignore_ascii_case("bearer"))
        .and_then(|offer| HeaderValue::from_str(offer).ok())
}

/// The parts of a comma-separated header, of all its lines.
fn parts(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Whether a comma-separated header contains a token, in upper or lower case.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    parts(headers, name).any(|part| part.eq_ignore_ascii_case(token))
}

/// The value of a header that occurs exactly once.
fn single_value(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| value.trim())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    /// Header lines of a handshake, valid and invalid.
    fn lines() -> impl Strategy<Value = Vec<(HeaderName, String)>> {
        let names = select(vec![
            header::CONNECTION,
            header::UPGRADE,
            header::SEC_WEBSOCKET_VERSION,
            header::SEC_WEBSOCKET_KEY,
            header::SEC_WEBSOCKET_PROTOCOL,
            header::HOST,
        ]);
        let values = prop_oneof![
            4 => select(vec!["upgrade", "websocket", "13", "AQIDBAUGBwgJCgsMDQ4PEC==", "bearer, t", "localhost"])
                .prop_map(str::to_owned),
            1 => "[ -~]{0,30}",
        ];
        vec((names, values), 0..12)
    }

    proptest! {
        #[test]
        fn any_header_lines_are_a_handshake_or_refused(lines in lines()) {
            let mut request = Request::builder().uri("/ws/");
            for (name, value) in &lines {
                request = request.header(name, value);
            }
            let request = request.body(Body::empty()).expect("a request");
            let of = |name: HeaderName| lines.iter().filter(move |(found, _)| *found == name).count();
            match accept_key(&request) {
                Ok(key) => {
                    prop_assert_eq!(key.len(), 28);
                    for name in [header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_VERSION, header::HOST] {
                        prop_assert_eq!(of(name), 1);
                    }
                }
                Err(error) => prop_assert!(matches!(error.code.status(), 400 | 426), "{error}"),
            }
            if let Some(chosen) = subprotocol(request.headers()) {
                let offers: Vec<_> = parts(request.headers(), header::SEC_WEBSOCKET_PROTOCOL).collect();
                prop_assert!(offers.contains(&chosen.to_str().expect("text")), "{offers:?}");
            }
        }
    }
}
