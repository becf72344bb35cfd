//! Reads what all HTTP dialects have in common: the token, the `Idempotency-Key` and the body. It also sets the
//! headers of an error response; each dialect writes the error's body itself.

use std::time::Duration;
use std::{convert::Infallible, marker::PhantomData};

use axum::{
    RequestExt as _,
    body::{Bytes, HttpBody as _},
    extract::{self, FromRequest as _, FromRequestParts},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use protocol::{
    caller::Caller,
    error::{Error, ErrorCode},
    text,
};
use serde::Serialize;
use serde_json::json;
use service::token::token_from;
use tokio::time::Instant;

use crate::{
    commands::state::APPEND_TIMEOUT,
    commands::{
        people,
        request_context::{RequestContext, WriteProgress},
    },
    documents::{DocumentedInput, OperationBuilder},
    state::ApiState,
};

/// Maximum time for a request, reading its body included.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Verifies the token of the `Authorization` header and returns its caller; `None` without such a header. Stores
/// the profile that the token contains. With `writes` the request counts against the caller's write limit.
pub(super) async fn authenticate(
    parts: &Parts,
    api: &ApiState,
    writes: bool,
) -> Result<Option<Caller>, Error> {
    // Not from the query: tokens there would end up in logs and browser histories. Only sockets accept that.
    let Some(token) = token_from(&parts.headers, None) else {
        if parts.headers.contains_key(header::AUTHORIZATION) {
            return Err(Error::new(ErrorCode::Unauthorized, "This is not a token."));
        }
        return Ok(None);
    };
    let identity = api
        .gate
        .verifier
        .identify(&token)
        .map_err(|error| Error::new(ErrorCode::Unauthorized, error.to_string()))?;
    if writes {
        api.gate.limits.count_write(&identity.caller)?;
    }
    let deadline = RequestArrival::of_request(parts).arrived_at + APPEND_TIMEOUT;
    people::store_token_profile(
        &api.commands,
        &identity.caller.user,
        identity.issued_at,
        &identity.person,
        deadline,
    )
    .await?;
    Ok(Some(identity.caller.clone()))
}

/// When a request arrived, and whether one of its events is stored; shared by all its writes.
#[derive(Clone, Debug)]
pub(crate) struct RequestArrival {
    arrived_at: Instant,
    pub(crate) progress: WriteProgress,
}

impl RequestArrival {
    /// The arrival of a request that arrives now.
    pub(crate) fn now() -> Self {
        Self { arrived_at: Instant::now(), progress: WriteProgress::default() }
    }

    fn of_request(parts: &Parts) -> Self {
        parts.extensions.get().cloned().unwrap_or_else(Self::now)
    }

    fn request_context<'a>(&self, key: Option<&'a str>) -> RequestContext<'a> {
        let progress = self.progress.clone();
        RequestContext { progress, ..RequestContext::new(key, self.arrived_at + APPEND_TIMEOUT) }
    }
}

/// The arrival of a request, for a route that takes no `Idempotency-Key`.
pub(super) struct NoIdempotencyKey(RequestArrival);

impl NoIdempotencyKey {
    /// The context that commands need: no key, and a deadline of `APPEND_TIMEOUT` after the arrival.
    pub(super) fn request_context(&self) -> RequestContext<'_> {
        self.0.request_context(None)
    }
}

impl FromRequestParts<ApiState> for NoIdempotencyKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Infallible> {
        Ok(Self(RequestArrival::of_request(parts)))
    }
}

impl DocumentedInput for NoIdempotencyKey {
    fn describe(_: &mut OperationBuilder<'_>) {}
}

/// The `Idempotency-Key` of a request, if it has one, and its arrival. A malformed key is rejected with an `R`.
pub(super) struct IdempotencyKey<R>(Option<String>, RequestArrival, PhantomData<R>);

impl<R> IdempotencyKey<R> {
    /// The context that commands need: the key, and a deadline of `APPEND_TIMEOUT` after the arrival.
    pub(super) fn request_context(&self) -> RequestContext<'_> {
        self.1.request_context(self.0.as_deref())
    }

    /// The context of a request whose body may take long to arrive: its deadline counts from now, once the body has
    /// been read, and is never later than `REQUEST_TIMEOUT` after the arrival.
    pub(super) fn request_context_after_body(&self) -> RequestContext<'_> {
        let deadline = (Instant::now() + APPEND_TIMEOUT).min(self.1.arrived_at + REQUEST_TIMEOUT);
        RequestContext { deadline, ..self.request_context() }
    }
}

impl<R: From<Error> + IntoResponse> FromRequestParts<ApiState> for IdempotencyKey<R> {
    type Rejection = R;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, R> {
        let key = parts.headers.get("idempotency-key").map(|value| value.to_str().unwrap_or(""));
        if let Some(key) = key {
            text::client_id("Idempotency-Key", key)?;
        }
        Ok(Self(key.map(str::to_owned), RequestArrival::of_request(parts), PhantomData))
    }
}

impl<R> DocumentedInput for IdempotencyKey<R> {
    fn describe(operation: &mut OperationBuilder<'_>) {
        let about = "A key for the request. If you repeat the request under it within a minute, it is executed \
                     once. A message whose key is a UUIDv7 is stored once, however late you repeat it.";
        let schema = json!({ "type": "string", "pattern": "^[!-~]{1,128}$" });
        operation.header_parameter("Idempotency-Key", about, &schema);
    }
}

/// Reads a body whose `Content-Type` is `application/json`, without parsing it; any other is refused with 415.
pub(super) async fn read_json_body(request: extract::Request, api: &ApiState) -> Result<Bytes, Error> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or("");
    if !kind.trim().eq_ignore_ascii_case("application/json") {
        return Err(Error::new(ErrorCode::UnsupportedMediaType, "The body must be application/json."));
    }
    read_body(request, api).await
}

/// Applies the route's body limit; the flag says whether `Content-Length` is above it. Reads nothing of the body,
/// so a client that sent `Expect: 100-continue` never gets a 100.
pub(super) fn limit_body(request: extract::Request) -> (extract::Request, bool) {
    let declared = request.body().size_hint().lower();
    let request = request.with_limited_body();
    let is_too_long = request.body().size_hint().lower() < declared;
    (request, is_too_long)
}

/// Reads a body as bytes; one that is longer than its route allows is refused with 413.
pub(super) async fn read_body(request: extract::Request, api: &ApiState) -> Result<Bytes, Error> {
    let too_large = || Error::new(ErrorCode::TooLarge, "The body must have at most 256 KiB.");
    let (request, is_too_long) = limit_body(request);
    if is_too_long {
        return Err(too_large());
    }
    Bytes::from_request(request, api).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            too_large()
        } else {
            Error::bad_request("The body could not be read.")
        }
    })
}

/// An error response with this body and content type, and with the headers that belong to the error's code:
/// `Retry-After`, and `WWW-Authenticate` for 401.
pub(super) fn error_response(error: &Error, kind: &'static str, body: &impl Serialize) -> Response {
    let status = status_of(error);
    let mut response = (status, axum::Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(seconds) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The HTTP status of an error.
pub(super) fn status_of(error: &Error) -> StatusCode {
    StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
