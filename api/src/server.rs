//! The HTTP surface: the dialects' routes behind the bounds that all share.

use std::{panic::AssertUnwindSafe, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{StatusCode, Uri, header},
    middleware::{self, Next},
    response::Response,
};
use futures_util::FutureExt as _;
use shared::{
    error::{Error, ErrorCode},
    metric_names as names, serve,
};
use tokio::time::Instant;

use crate::{
    dialects::{direct, native, not_allowed, refusal, support, topics},
    documents,
    state::Api,
    web,
};

/// The largest body: the longest legal text, fully escaped, is 192 KiB.
const BODY_MAX: usize = 256 << 10;
/// How long a request may take, its body included.
const REQUEST: Duration = Duration::from_secs(30);

/// All routes of an api node.
pub(crate) fn router(api: Api) -> Router {
    let surfaces = vec![native::routes(), support::routes(), topics::routes(), direct::routes()];
    let routes = documents::router(surfaces)
        .merge(web::router())
        .method_not_allowed_fallback(async |address: Uri| not_allowed(&address))
        .route_layer(middleware::from_fn_with_state(api.clone(), origin))
        .route_layer(middleware::from_fn(measure))
        .with_state(api.clone());
    routes
        .fallback(async |address: Uri| refusal(address.path(), Error::not_found()))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(api, often))
        .layer(middleware::from_fn(guard))
        .layer(middleware::from_fn(serve::request_id))
}

/// A browser may only ask from pages that the configuration names.
async fn origin(State(api): State<Api>, request: Request, next: Next) -> Response {
    let allowed = {
        let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or(""));
        api.origins.allows(text(header::ORIGIN), text(header::HOST))
    };
    if allowed {
        next.run(request).await
    } else {
        let error = Error::new(ErrorCode::Forbidden, "This origin is not allowed.");
        refusal(request.uri().path(), error)
    }
}

/// An address may ask only so often.
async fn often(State(api): State<Api>, request: Request, next: Next) -> Response {
    match api.requests.count(&api.address.of(&request)) {
        Ok(()) => next.run(request).await,
        Err(error) => refusal(request.uri().path(), error),
    }
}

/// Answers in time, whatever becomes of the request.
async fn guard(request: Request, next: Next) -> Response {
    let address = request.uri().clone();
    let refuse = |code, detail| refusal(address.path(), Error::new(code, detail));
    let answering = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(REQUEST, answering).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => refuse(ErrorCode::Internal, "Something went wrong here."),
        Err(_) => refuse(ErrorCode::RequestTimeout, "The request took too long."),
    }
}

/// Counts by route, never by path: a path may be anything.
async fn measure(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let method = request.method().as_str().to_owned();
    let started = Instant::now();
    let response = next.run(request).await;
    let status = status_label(response.status());
    metrics::histogram!(names::HTTP_SECONDS, "route" => route.clone())
        .record(started.elapsed().as_secs_f64());
    metrics::counter!(names::HTTP_REQUESTS_TOTAL, "route" => route, "method" => method, "status" => status)
        .increment(1);
    response
}

fn status_label(status: StatusCode) -> String {
    status.as_u16().to_string()
}
