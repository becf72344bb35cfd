//! A refusal as an RFC 9457 problem.

use axum::response::{IntoResponse, Response};
use protocol::error::Error;
use serde_json::Value;

use super::wire;
use crate::{
    dialects::http,
    documents::{self, SchemaSet},
};

const KIND: &str = "application/problem+json";

/// A refusal on its way to the client.
#[derive(Debug)]
pub(crate) struct Problem(pub(crate) Error);

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let status = http::status(&error);
        let body = wire::Problem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code: error.code,
            detail: &error.detail,
        };
        http::refused(&error, KIND, &body)
    }
}

impl documents::DocumentedRefusal for Problem {
    const KIND: &str = KIND;

    fn form(schemas: &mut SchemaSet) -> Value {
        schemas.written::<wire::Problem<'_>>()
    }
}
