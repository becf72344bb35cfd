//! What a handler is given: the caller, the room of the path, the body; or a refusal.

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::request::Parts,
};
use protocol::{error::Error, id::RoomId};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::errors::Refusal;
use crate::{
    commands::state::Api,
    dialects::{http, read},
    documents::{DocumentedInput, Operation},
};

/// Who asks, by a valid token.
pub(super) struct Reader(pub(super) protocol::caller::Caller);

impl FromRequestParts<Api> for Reader {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        Ok(Self(http::caller(parts, api, false).await?.ok_or_else(Error::token_needed)?))
    }
}

impl DocumentedInput for Reader {
    fn describe(operation: &mut Operation<'_>) {
        operation.token(true);
    }
}

/// The same, of a request that writes, whatever its method.
pub(super) struct Writer(pub(super) protocol::caller::Caller);

impl FromRequestParts<Api> for Writer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        Ok(Self(http::caller(parts, api, true).await?.ok_or_else(Error::token_needed)?))
    }
}

impl DocumentedInput for Writer {
    fn describe(operation: &mut Operation<'_>) {
        operation.token(true);
        operation.refuses(&[409]);
    }
}

/// The room that the path names.
pub(super) struct InRoom(pub(super) RoomId);

impl FromRequestParts<Api> for InRoom {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        // A malformed id is answered 404.
        let path = Path::<String>::from_request_parts(parts, api).await;
        let Path(room) = path.map_err(|_| Error::not_found())?;
        Ok(Self(room.parse().map_err(|_| Error::not_found())?))
    }
}

impl DocumentedInput for InRoom {
    fn describe(operation: &mut Operation<'_>) {
        operation.path::<RoomId>();
    }
}

/// The key under which a request may be sent again.
pub(super) type IdempotencyKey = http::IdempotencyKey<Refusal>;
pub(super) use http::NoIdempotencyKey;

/// A JSON body of that form.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Refusal> {
        Ok(Self(read::json(&http::body(request, api).await?)?))
    }
}

impl<T: JsonSchema> DocumentedInput for Json<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.body::<T>(&["application/json"], true);
    }
}

/// Reads bytes as all that clients send here.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    use crate::dialects::read::is_read_or_refused as read;
    read::<super::wire::NewRoom>(bytes);
    read::<super::wire::NewMessage>(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::dialects::read::any;

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(bytes in any::bytes()) {
            super::read_any(&bytes);
        }
    }
}
