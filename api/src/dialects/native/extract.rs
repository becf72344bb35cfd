//! Extracts the caller and the body for handlers, or answers an error.

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::request::Parts,
};
use protocol::error::Error;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::{decode, errors::Rejection};
use crate::{
    dialects::http,
    documents::{DocumentedInput, OperationBuilder},
    state::ApiState,
};

/// The caller, by a valid token; without one 401.
pub(crate) struct Authenticated(pub(crate) protocol::caller::Caller);

impl FromRequestParts<ApiState> for Authenticated {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, Rejection> {
        Ok(Self(
            http::authenticate(parts, api, !parts.method.is_safe()).await?.ok_or_else(Error::token_needed)?,
        ))
    }
}

impl DocumentedInput for Authenticated {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.token_security(true);
    }
}

/// The `Idempotency-Key`, with errors in this dialect's format.
pub(crate) type IdempotencyKey = http::IdempotencyKey<Rejection>;
pub(super) use http::NoIdempotencyKey;

/// A body of `application/json`, parsed as a `T`.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<ApiState> for JsonBody<T> {
    type Rejection = Rejection;

    async fn from_request(request: Request, api: &ApiState) -> Result<Self, Rejection> {
        let body = http::read_json_body(request, api).await?;
        Ok(Self(decode::parse_object(&body)?))
    }
}

impl<T: JsonSchema> DocumentedInput for JsonBody<T> {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.request_body::<T>(&["application/json"], true);
        operation.rejects_with(&[415]);
    }
}
