//! A refusal as this dialect's clients know it.

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
        let Self(error) = self;
        http::refused(&error, KIND, &wire::Refused { success: false, message: &error.detail })
    }
}

impl documents::DocumentedRefusal for Refusal {
    const KIND: &str = KIND;

    fn form(schemas: &mut SchemaSet) -> Value {
        schemas.written::<wire::Refused<'_>>()
    }
}
