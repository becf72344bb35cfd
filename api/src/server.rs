//! Serves HTTP: the routes of the dialects, behind limits that all of them share.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    body::HttpBody as _,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::Response,
};
use futures_util::FutureExt as _;
use protocol::error::{Error, ErrorCode};
use service::{metric_names as names, serve};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::{
    commands::request_context::WriteProgress,
    cors::PageCorsLayer,
    dialects::{
        REQUEST_TIMEOUT, RequestArrival, direct, match_rooms, method_not_allowed, native, rejection, support,
        topics,
    },
    documents::{self, SocketActions},
    page,
    state::{ApiState, Gate},
    web,
};

/// Maximum size of a request's body: the longest legal text, fully escaped, is 192 KiB.
const BODY_MAX_BYTES: usize = 256 << 10;

/// Builds all routes of an api node.
pub(crate) fn router(api: ApiState) -> Router {
    let cors = PageCorsLayer::for_origins(api.gate.origins.clone(), [support::PASS_HEADER]);
    let surfaces = vec![native::routes(), support::routes(), topics::routes(), direct::routes()];
    let routes = documents::router(surfaces, &socket_actions())
        .merge(web::router())
        .method_not_allowed_fallback(async |address: Uri| method_not_allowed(&address))
        .route_layer(middleware::from_fn_with_state(api.gate.clone(), check_origin_and_measure))
        .with_state(api.clone());
    routes
        .fallback(async |address: Uri| rejection(address.path(), Error::not_found()))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(middleware::from_fn_with_state(api.gate, apply_request_limits))
        .layer(cors)
}

/// Returns the actions of sockets for the AsyncAPI document.
const fn socket_actions() -> SocketActions {
    SocketActions {
        native: native::socket::ACTIONS,
        match_rooms: match_rooms::socket::ACTIONS,
        is_kept_from_admins: match_rooms::socket::is_kept_from_admins,
    }
}

/// Applies to every request: request id, host check, per-address rate limit, timeout of [`REQUEST_TIMEOUT`], panic
/// handler, and the maximum size of answers. It is one function because each separate middleware costs some 10 µs
/// (measured).
async fn apply_request_limits(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let id = serve::request_id(&mut request);
    let span = serve::span(&request, &id);
    let address = request.uri().clone();
    let refuse = |error| rejection(address.path(), error);
    let arrival = RequestArrival::now();
    request.extensions_mut().insert(arrival.clone());
    let answering = async {
        let host = serve::host(&request).map(drop);
        let client_ip = gate.client_address_args.of_request(request.headers(), request.extensions());
        match host.and_then(|()| gate.limits.requests_by_address.count_address(client_ip)) {
            Ok(()) => next.run(request).await,
            Err(error) => refuse(error),
        }
    };
    let answering = AssertUnwindSafe(answering.instrument(span)).catch_unwind();
    let response = match tokio::time::timeout(REQUEST_TIMEOUT, answering).await {
        Ok(Ok(response)) if is_json_too_large(&response) => {
            metrics::counter!(names::ANSWERS_TOO_LARGE_TOTAL, "way" => "http").increment(1);
            refuse(page::too_large_error())
        }
        Ok(Ok(response)) => response,
        Ok(Err(_)) => refuse(Error::new(ErrorCode::Internal, "An internal error occurred.")),
        Err(_) => refuse(Error::new(ErrorCode::RequestTimeout, "The request took too long.")),
    };
    // A failure after an event was stored leaves the outcome unknown.
    let is_server_failure =
        response.status().is_server_error() || response.status() == StatusCode::REQUEST_TIMEOUT;
    let mut response = if is_server_failure && arrival.progress.has_stored() {
        refuse(WriteProgress::outcome_unknown())
    } else {
        response
    };
    let headers = response.headers_mut();
    headers.insert(serve::REQUEST_ID, id);
    if address.path().starts_with(support::PREFIX) {
        // Answers of the support dialect contain rooms' keys, which need no token: no cache may keep them.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Returns whether an answer has more JSON than [`page::HTTP_MAX_BYTES`]. Lists end before that; this is for answers
/// that can't be split.
fn is_json_too_large(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let bytes = response.body().size_hint().lower();
    bytes > page::HTTP_MAX_BYTES as u64 && kind.is_some_and(|kind| kind.ends_with("json"))
}

/// Refuses browsers' requests from origins that the configuration does not allow, and measures every request by its
/// route. The path is no label, since its values are unbounded.
async fn check_origin_and_measure(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let method = method_label(request.method());
    let started = Instant::now();
    let host = serve::host(&request).unwrap_or(None);
    let response = if gate.origins.allows(request.headers(), host) {
        next.run(request).await
    } else {
        let error = Error::new(ErrorCode::Forbidden, "This origin is not allowed.");
        rejection(request.uri().path(), error)
    };
    let status = status_label(response.status());
    metrics::histogram!(names::HTTP_SECONDS, "route" => route.clone())
        .record(started.elapsed().as_secs_f64());
    metrics::counter!(names::HTTP_REQUESTS_TOTAL, "route" => route, "method" => method, "status" => status)
        .increment(1);
    response
}

/// Returns the label of a method. Clients may invent methods, and each would become a time series that is never
/// removed.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn status_label(status: StatusCode) -> String {
    status.as_u16().to_string()
}
