//! What a handler is given: the caller, the ids of the path, the body; or a problem.

use std::str::FromStr;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;
use shared::{
    error::{Error, ErrorCode},
    id::{MessageId, RoomId, TeamId, UserId},
    rules,
    token::token_from,
};

use super::{decode, errors::Problem};
use crate::{commands::people, state::Api};

/// Who asks, by a valid token.
pub(crate) struct Caller(pub(crate) rules::Caller);

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        // A token in the address would end up in logs and histories: sockets alone need that.
        let token = token_from(&parts.headers, None)
            .ok_or_else(|| Problem::new(ErrorCode::Unauthorized, "A token is needed."))?;
        let identity = api
            .verifier
            .verify(&token)
            .map_err(|error| Error::new(ErrorCode::Unauthorized, error.to_string()))?;
        if !parts.method.is_safe() {
            api.writes.count(&identity.caller.user)?;
        }
        people::learn(api, &identity.caller.user, identity.issued_at, &identity.person).await?;
        Ok(Self(identity.caller))
    }
}

/// The room that the path names.
pub(crate) struct InRoom(pub(crate) RoomId);

impl FromRequestParts<Api> for InRoom {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        // What is no id names nothing.
        let Path(room) =
            Path::<String>::from_request_parts(parts, api).await.map_err(|_| Error::not_found())?;
        Ok(Self(room.parse().map_err(|_| Error::not_found())?))
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

/// The key under which a request may be sent again.
pub(crate) struct IdempotencyKey(pub(crate) Option<String>);

impl FromRequestParts<Api> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let key = value.to_str().unwrap_or("");
        rules::client_id("Idempotency-Key", key)?;
        Ok(Self(Some(key.to_owned())))
    }
}

/// A JSON body of that form.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or("");
        if !kind.trim().eq_ignore_ascii_case("application/json") {
            return Err(Problem::new(ErrorCode::UnsupportedMediaType, "The body must be application/json."));
        }
        let body = Bytes::from_request(request, api).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Problem::new(ErrorCode::TooLarge, "The body must have at most 256 KiB.")
            } else {
                Problem::new(ErrorCode::BadRequest, "The body could not be read.")
            }
        })?;
        Ok(Self(decode::json(&body)?))
    }
}
