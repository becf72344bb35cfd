//! A refusal as `{"detail": "…"}`.

use axum::response::{IntoResponse, Response};
use serde_json::json;
use shared::error::Error;

use crate::dialects::http;

/// A refusal on its way to the client.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Error);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        http::refused(&self.0, "application/json", &json!({ "detail": self.0.detail }))
    }
}
