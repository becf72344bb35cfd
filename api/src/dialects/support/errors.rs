//! Writes an error as `{"success": false, "message": "…"}`.

use axum::response::{IntoResponse, Response};
use protocol::error::Error;
use serde_json::Value;

use super::wire;
use crate::{
    dialects::http,
    documents::{self, SchemaSet},
};

const CONTENT_TYPE: &str = "application/json";

/// An error response of the support dialect.
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
        http::error_response(&error, CONTENT_TYPE, &wire::Refused { success: false, message: &error.detail })
    }
}

impl documents::DocumentedRejection for Rejection {
    const CONTENT_TYPE: &str = CONTENT_TYPE;

    fn schema(schemas: &mut SchemaSet) -> Value {
        schemas.response_schema::<wire::Refused<'_>>()
    }
}
