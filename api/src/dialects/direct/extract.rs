//! Extracts the caller and the body for handlers, or answers an error.

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::request::Parts,
};
use protocol::error::Error;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::errors::Rejection;
use crate::{
    dialects::{http, json},
    documents::{DocumentedInput, OperationBuilder},
    state::ApiState,
};

/// The caller, by a valid token; without one 401. The request does not count as a write.
pub(super) struct Authenticated(pub(super) protocol::caller::Caller);

impl FromRequestParts<ApiState> for Authenticated {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, Rejection> {
        Ok(Self(http::authenticate(parts, api, false).await?.ok_or_else(Error::token_needed)?))
    }
}

impl DocumentedInput for Authenticated {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.token_security(true);
    }
}

/// The caller of a request that writes, whatever its method: it counts against the caller's write limit.
pub(super) struct AuthenticatedWriter(pub(super) protocol::caller::Caller);

impl FromRequestParts<ApiState> for AuthenticatedWriter {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, Rejection> {
        Ok(Self(http::authenticate(parts, api, true).await?.ok_or_else(Error::token_needed)?))
    }
}

impl DocumentedInput for AuthenticatedWriter {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.token_security(true);
        operation.rejects_with(&[409]);
    }
}

/// The `Idempotency-Key`, with errors in this dialect's format.
pub(super) type IdempotencyKey = http::IdempotencyKey<Rejection>;
pub(super) use http::NoIdempotencyKey;

/// A JSON body, parsed as a `T`, whatever its `Content-Type`.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<ApiState> for JsonBody<T> {
    type Rejection = Rejection;

    async fn from_request(request: Request, api: &ApiState) -> Result<Self, Rejection> {
        Ok(Self(json::parse_object(&http::read_body(request, api).await?)?))
    }
}

impl<T: JsonSchema> DocumentedInput for JsonBody<T> {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.request_body::<T>(&["application/json"], true);
    }
}

/// Parses bytes as each body of this dialect; for property tests and fuzzing.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    use crate::dialects::json::assert_parsed_or_refused as read;
    read::<super::wire::NewRoom>(bytes);
    read::<super::wire::NewMessage>(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::dialects::json::any;

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(bytes in any::bytes()) {
            super::read_any(&bytes);
        }
    }
}
