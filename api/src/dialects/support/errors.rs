//! A refusal as this dialect's clients know it.

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
        let Self(error) = self;
        let body = json!({ "success": false, "message": error.detail });
        http::refused(&error, "application/json", &body)
    }
}
