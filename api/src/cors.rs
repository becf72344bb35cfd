//! Implements CORS: lets pages of allowed origins read answers, and send requests that are not simple.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, Method, header, request::Parts},
    response::Response,
};
use futures_util::{
    TryFutureExt as _,
    future::{Either, InspectOk},
};
use service::{metric_names as names, origin::OriginArgs, serve::REQUEST_ID};
use tower::{Layer, Service};
use tower_http::cors::{AllowHeaders, AllowOrigin, Cors, CorsLayer};

/// How long browsers may cache a preflight; no browser does so for longer than this.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(7_200);

/// Headers of answers that pages may read.
const EXPOSED_HEADERS: [HeaderName; 5] =
    [header::RETRY_AFTER, header::WWW_AUTHENTICATE, header::ALLOW, header::LOCATION, REQUEST_ID];

/// Answers preflights, and adds to other answers which page may read them.
#[derive(Clone)]
pub(crate) struct PageCorsLayer(CorsLayer);

impl PageCorsLayer {
    /// Makes the layer for pages of these origins; pages may also read the headers `exposed`.
    pub(crate) fn for_origins<const N: usize>(origins: OriginArgs, exposed: [HeaderName; N]) -> Self {
        let allows = move |_: &HeaderValue, request: &Parts| {
            // Requests without a host are refused by the routes.
            let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
            origins.allows(&request.headers, host)
        };
        let methods = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let cors = CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(allows))
            // Credentials are not allowed together with `*`: an allowed origin is always named.
            .allow_credentials(true)
            .allow_methods(methods)
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(EXPOSED_HEADERS.into_iter().chain(exposed).collect::<Vec<_>>())
            .max_age(PREFLIGHT_MAX_AGE)
            .vary([header::ORIGIN]);
        Self(cors)
    }
}

impl<S> Layer<S> for PageCorsLayer {
    type Service = PageCors<S>;

    fn layer(&self, inner: S) -> PageCors<S> {
        PageCors(self.0.layer(inner))
    }
}

/// Adds CORS headers to answers for pages, and counts preflights. All other requests, also an `OPTIONS` that is no
/// preflight, go to the inner service unchanged.
#[derive(Clone)]
pub(crate) struct PageCors<S>(Cors<S>);

fn is_preflight(request: &Request) -> bool {
    let has = |name| request.headers().contains_key(name);
    request.method() == Method::OPTIONS && has(header::ORIGIN) && has(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn has_origin(request: &Request) -> bool {
    request.method() != Method::OPTIONS && request.headers().contains_key(header::ORIGIN)
}

/// Counts the answer to a preflight.
fn count_preflight(answer: &Response) {
    let is_allowed = answer.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    let outcome = if is_allowed { "allowed" } else { "refused" };
    metrics::counter!(names::HTTP_PREFLIGHTS_TOTAL, "outcome" => outcome).increment(1);
}

impl<S> Service<Request> for PageCors<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, InspectOk<<Cors<S> as Service<Request>>::Future, fn(&Response)>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let on_response: fn(&Response) = match (is_preflight(&request), has_origin(&request)) {
            (true, _) => count_preflight,
            (false, true) => |_| {},
            (false, false) => return Either::Left(self.0.get_mut().call(request)),
        };
        Either::Right(self.0.call(request).inspect_ok(on_response))
    }
}
