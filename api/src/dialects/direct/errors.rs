//! A refusal as `{"detail": "…"}`.

use axum::response::{IntoResponse, Response};
use protocol::error::Error;
use serde_json::Value;

use super::wire;
use crate::{
    dialects::http,
    documents::{self, SchemaSet},
};

const KIND: &str = "application/json";

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
        http::refused(&self.0, KIND, &wire::Refused { detail: &self.0.detail })
    }
}

impl documents::DocumentedRefusal for Refusal {
    const KIND: &str = KIND;

    fn form(schemas: &mut SchemaSet) -> Value {
        schemas.written::<wire::Refused<'_>>()
    }
}
