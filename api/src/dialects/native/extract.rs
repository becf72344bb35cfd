//! Extracts the caller, the ids of the path and the body for handlers, or answers a problem.

use std::str::FromStr;

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::request::Parts,
};
use protocol::{
    error::Error,
    id::{MessageId, RoomId, TeamId, UserId},
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::{decode, errors::Rejection};
use crate::{
    commands::state::SharedApiState,
    dialects::http,
    documents::{DocumentedInput, OperationBuilder},
};

/// Who asks, by a valid token.
pub(crate) struct Authenticated(pub(crate) protocol::caller::Caller);

impl FromRequestParts<SharedApiState> for Authenticated {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &SharedApiState) -> Result<Self, Rejection> {
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

/// The room that the path names.
pub(crate) struct RoomPath(pub(crate) RoomId);

impl FromRequestParts<SharedApiState> for RoomPath {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &SharedApiState) -> Result<Self, Rejection> {
        // A malformed id is answered 404.
        let Path(room) =
            Path::<String>::from_request_parts(parts, api).await.map_err(|_| Error::not_found())?;
        Ok(Self(room.parse().map_err(|_| Error::not_found())?))
    }
}

impl DocumentedInput for RoomPath {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.path_parameter::<RoomId>();
    }
}

/// The team that the path names.
pub(crate) struct TeamPath(pub(crate) TeamId);

impl FromRequestParts<SharedApiState> for TeamPath {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &SharedApiState) -> Result<Self, Rejection> {
        let path = Path::<String>::from_request_parts(parts, api).await;
        let Path(team) = path.map_err(|_| Error::not_found())?;
        Ok(Self(team.parse().map_err(|_| Error::not_found())?))
    }
}

impl DocumentedInput for TeamPath {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.path_parameter::<TeamId>();
    }
}

/// The invitation that the path names.
pub(crate) struct InvitationPath(pub(crate) u64);

impl FromRequestParts<SharedApiState> for InvitationPath {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &SharedApiState) -> Result<Self, Rejection> {
        let path = Path::<String>::from_request_parts(parts, api).await;
        let Path(id) = path.map_err(|_| Error::not_found())?;
        // Its number is that of an event, as a message's is.
        let MessageId(id) = id.parse().map_err(|_| Error::not_found())?;
        Ok(Self(id))
    }
}

impl DocumentedInput for InvitationPath {
    fn describe(operation: &mut OperationBuilder<'_>) {
        // Its number is that of an event, as a message's is.
        operation.path_parameter::<MessageId>();
    }
}

/// The person whom the path names.
pub(crate) struct UserPath(pub(crate) UserId);

impl FromRequestParts<SharedApiState> for UserPath {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &SharedApiState) -> Result<Self, Rejection> {
        let path = Path::<String>::from_request_parts(parts, api).await;
        let Path(user) = path.map_err(|_| Error::not_found())?;
        Ok(Self(user.parse().map_err(|_| Error::not_found())?))
    }
}

impl DocumentedInput for UserPath {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.path_parameter::<UserId>();
    }
}

/// A person whom the path names below a room or a team.
pub(crate) struct MemberPath<T>(pub(crate) T, pub(crate) UserId);

impl<T: FromStr> FromRequestParts<SharedApiState> for MemberPath<T> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &SharedApiState) -> Result<Self, Rejection> {
        let path = Path::<(String, String)>::from_request_parts(parts, api).await;
        let Path((of, user)) = path.map_err(|_| Error::not_found())?;
        let of = of.parse().map_err(|_| Error::not_found())?;
        Ok(Self(of, user.parse().map_err(|_| Error::not_found())?))
    }
}

impl<T: JsonSchema> DocumentedInput for MemberPath<T> {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.path_parameter::<T>();
        operation.path_parameter::<UserId>();
    }
}

/// The message that the path names.
pub(crate) struct MessagePath(pub(crate) RoomId, pub(crate) MessageId);

impl FromRequestParts<SharedApiState> for MessagePath {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &SharedApiState) -> Result<Self, Rejection> {
        let path = Path::<(String, String)>::from_request_parts(parts, api).await;
        let Path((room, message)) = path.map_err(|_| Error::not_found())?;
        let room = room.parse().map_err(|_| Error::not_found())?;
        Ok(Self(room, message.parse().map_err(|_| Error::not_found())?))
    }
}

impl DocumentedInput for MessagePath {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.path_parameter::<RoomId>();
        operation.path_parameter::<MessageId>();
    }
}

/// The key under which a request may be sent again.
pub(crate) type IdempotencyKey = http::IdempotencyKey<Rejection>;
pub(super) use http::NoIdempotencyKey;

/// A JSON body of that form.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<SharedApiState> for JsonBody<T> {
    type Rejection = Rejection;

    async fn from_request(request: Request, api: &SharedApiState) -> Result<Self, Rejection> {
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
