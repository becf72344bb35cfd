//! Extracts the caller and the body for handlers, or refuses.

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::request::Parts,
};
use protocol::error::Error;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::errors::Rejection;
use crate::{
    commands::state::SharedApiState,
    dialects::{http, json},
    documents::{DocumentedInput, OperationBuilder},
};

/// Who asks, by a valid token.
pub(super) struct Authenticated(pub(super) protocol::caller::Caller);

impl FromRequestParts<SharedApiState> for Authenticated {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &SharedApiState) -> Result<Self, Rejection> {
        Ok(Self(http::authenticate(parts, api, false).await?.ok_or_else(Error::token_needed)?))
    }
}

impl DocumentedInput for Authenticated {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.token_security(true);
    }
}

/// The same, of a request that writes, whatever its method.
pub(super) struct AuthenticatedWriter(pub(super) protocol::caller::Caller);

impl FromRequestParts<SharedApiState> for AuthenticatedWriter {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &SharedApiState) -> Result<Self, Rejection> {
        Ok(Self(http::authenticate(parts, api, true).await?.ok_or_else(Error::token_needed)?))
    }
}

impl DocumentedInput for AuthenticatedWriter {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.token_security(true);
        operation.rejects_with(&[409]);
    }
}

/// The key under which a request may be sent again.
pub(super) type IdempotencyKey = http::IdempotencyKey<Rejection>;
pub(super) use http::NoIdempotencyKey;

/// A JSON body of that form.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<SharedApiState> for JsonBody<T> {
    type Rejection = Rejection;

    async fn from_request(request: Request, api: &SharedApiState) -> Result<Self, Rejection> {
        Ok(Self(json::parse_object(&http::read_body(request, api).await?)?))
    }
}

impl<T: JsonSchema> DocumentedInput for JsonBody<T> {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.request_body::<T>(&["application/json"], true);
    }
}

/// Reads bytes as all that clients send here.
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
