//! Writes an error as an RFC 9457 problem.

use axum::response::{IntoResponse, Response};
use protocol::error::Error;
use serde_json::Value;

use super::wire;
use crate::{
    dialects::http,
    documents::{self, SchemaSet},
};

const CONTENT_TYPE: &str = "application/problem+json";

/// An error response of the native dialect.
#[derive(Debug)]
pub(crate) struct Rejection(pub(crate) Error);

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let status = http::status_of(&error);
        let body = wire::Problem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code: error.code,
            detail: &error.detail,
        };
        http::error_response(&error, CONTENT_TYPE, &body)
    }
}

impl documents::DocumentedRejection for Rejection {
    const CONTENT_TYPE: &str = CONTENT_TYPE;

    fn schema(schemas: &mut SchemaSet) -> Value {
        schemas.response_schema::<wire::Problem<'_>>()
    }
}
