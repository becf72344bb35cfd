//! What a handler is given: the caller, the ids of the path, the body; or a problem.

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

use super::{decode, errors::Problem};
use crate::{
    commands::state::Api,
    dialects::http,
    documents::{DocumentedInput, Operation},
};

/// Who asks, by a valid token.
pub(crate) struct Caller(pub(crate) protocol::caller::Caller);

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        Ok(Self(http::caller(parts, api, !parts.method.is_safe()).await?.ok_or_else(Error::token_needed)?))
    }
}

impl DocumentedInput for Caller {
    fn describe(operation: &mut Operation<'_>) {
        operation.token(true);
    }
}

/// The room that the path names.
pub(crate) struct InRoom(pub(crate) RoomId);

impl FromRequestParts<Api> for InRoom {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        // A malformed id is answered 404.
        let Path(room) =
            Path::<String>::from_request_parts(parts, api).await.map_err(|_| Error::not_found())?;
        Ok(Self(room.parse().map_err(|_| Error::not_found())?))
    }
}

impl DocumentedInput for InRoom {
    fn describe(operation: &mut Operation<'_>) {
        operation.path::<RoomId>();
    }
}

/// The team that the path names.
pub(crate) struct OfTeam(pub(crate) TeamId);

impl FromRequestParts<Api> for OfTeam {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, api).await;
        let Path(team) = path.map_err(|_| Error::not_found())?;
        Ok(Self(team.parse().map_err(|_| Error::not_found())?))
    }
}

impl DocumentedInput for OfTeam {
    fn describe(operation: &mut Operation<'_>) {
        operation.path::<TeamId>();
    }
}

/// The invitation that the path names.
pub(crate) struct OfInvitation(pub(crate) u64);

impl FromRequestParts<Api> for OfInvitation {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, api).await;
        let Path(id) = path.map_err(|_| Error::not_found())?;
        // Its number is that of an event, as a message's is.
        let MessageId(id) = id.parse().map_err(|_| Error::not_found())?;
        Ok(Self(id))
    }
}

impl DocumentedInput for OfInvitation {
    fn describe(operation: &mut Operation<'_>) {
        // Its number is that of an event, as a message's is.
        operation.path::<MessageId>();
    }
}

/// The person whom the path names.
pub(crate) struct OfUser(pub(crate) UserId);

impl FromRequestParts<Api> for OfUser {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, api).await;
        let Path(user) = path.map_err(|_| Error::not_found())?;
        Ok(Self(user.parse().map_err(|_| Error::not_found())?))
    }
}

impl DocumentedInput for OfUser {
    fn describe(operation: &mut Operation<'_>) {
        operation.path::<UserId>();
    }
}

/// A person whom the path names below a room or a team.
pub(crate) struct Member<T>(pub(crate) T, pub(crate) UserId);

impl<T: FromStr> FromRequestParts<Api> for Member<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, api).await;
        let Path((of, user)) = path.map_err(|_| Error::not_found())?;
        let of = of.parse().map_err(|_| Error::not_found())?;
        Ok(Self(of, user.parse().map_err(|_| Error::not_found())?))
    }
}

impl<T: JsonSchema> DocumentedInput for Member<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.path::<T>();
        operation.path::<UserId>();
    }
}

/// The message that the path names.
pub(crate) struct OfMessage(pub(crate) RoomId, pub(crate) MessageId);

impl FromRequestParts<Api> for OfMessage {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, api).await;
        let Path((room, message)) = path.map_err(|_| Error::not_found())?;
        let room = room.parse().map_err(|_| Error::not_found())?;
        Ok(Self(room, message.parse().map_err(|_| Error::not_found())?))
    }
}

impl DocumentedInput for OfMessage {
    fn describe(operation: &mut Operation<'_>) {
        operation.path::<RoomId>();
        operation.path::<MessageId>();
    }
}

/// The key under which a request may be sent again.
pub(crate) type IdempotencyKey = http::IdempotencyKey<Problem>;
pub(super) use http::NoIdempotencyKey;

/// A JSON body of that form.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let body = http::json_body(request, api).await?;
        Ok(Self(decode::json(&body)?))
    }
}

impl<T: JsonSchema> DocumentedInput for Json<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.body::<T>(&["application/json"], true);
        operation.refuses(&[415]);
    }
}
