//! Serves the web pages, for a first try and for reading the documents: the program contains all their files.

use axum::{
    Router,
    http::{HeaderName, header},
    response::IntoResponse,
    routing::get,
};

use crate::state::ApiState;

/// Allows no resource from elsewhere, and no inline script or style.
const PAGE_CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Routes of the pages and their files.
pub(crate) fn router() -> Router<ApiState> {
    Router::new()
        .route("/", get(|| async { static_file("text/html; charset=utf-8", include_str!("index.html")) }))
        .route(
            "/app.js",
            get(|| async { static_file("text/javascript; charset=utf-8", include_str!("app.js")) }),
        )
        .route("/app.css", get(|| async { static_file("text/css; charset=utf-8", include_str!("app.css")) }))
        .route("/docs", get(|| async { static_file("text/html; charset=utf-8", include_str!("docs.html")) }))
        .route(
            "/docs.js",
            get(|| async { static_file("text/javascript; charset=utf-8", include_str!("docs.js")) }),
        )
        .route(
            "/docs.css",
            get(|| async { static_file("text/css; charset=utf-8", include_str!("docs.css")) }),
        )
}

fn static_file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, PAGE_CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}
