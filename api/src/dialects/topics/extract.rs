//! What a handler is given: the caller, the category and the chat of the path, where the client found us.

use std::{convert::Infallible, marker::PhantomData};

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{header, request::Parts, uri::Authority},
};
use protocol::{error::Error, id::RoomId};
use schemars::JsonSchema;

use super::{body::Fields, errors::Refusal, wire};
use crate::{
    commands::state::Api,
    dialects::http,
    documents::{DocumentedInput, Operation},
};

/// Who asks, where somebody says so; a token that does not count is refused.
pub(super) struct Reader(Option<protocol::caller::Caller>);

impl FromRequestParts<Api> for Reader {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let mut words = header.unwrap_or("").split_whitespace();
        let is_ours = words.next().is_some_and(|scheme| {
            ["bearer", "token", "jwt"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
        });
        if !is_ours {
            return Ok(Self(None));
        }
        if words.count() != 1 {
            return Err(Refusal::bad_header());
        }
        Ok(Self(http::caller(parts, api, !parts.method.is_safe()).await?))
    }
}

impl DocumentedInput for Reader {
    fn describe(operation: &mut Operation<'_>) {
        operation.token(false);
    }
}

/// Who asks, by a valid token.
pub(super) struct Caller(pub(super) protocol::caller::Caller);

impl FromRequestParts<Api> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        let Reader(caller) = Reader::from_request_parts(parts, api).await?;
        caller.map(Self).ok_or_else(Refusal::no_token)
    }
}

impl DocumentedInput for Caller {
    fn describe(operation: &mut Operation<'_>) {
        operation.token(true);
    }
}

/// The category that the path names.
pub(super) struct InCategory(pub(super) String);

impl FromRequestParts<Api> for InCategory {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        let path = Path::<String>::from_request_parts(parts, api).await;
        let Path(category) = path.map_err(|_| Refusal::wrong_room())?;
        if api.topics.contains(&category) { Ok(Self(category)) } else { Err(Refusal::wrong_room()) }
    }
}

impl DocumentedInput for InCategory {
    fn describe(operation: &mut Operation<'_>) {
        operation.path::<String>();
    }
}

/// The chat that the path names.
pub(super) struct OfChat(pub(super) String, pub(super) RoomId);

impl FromRequestParts<Api> for OfChat {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        let path = Path::<(String, String)>::from_request_parts(parts, api).await;
        let Path((category, room)) = path.map_err(|_| Error::not_found())?;
        Ok(Self(category, room.parse().map_err(|_| Error::not_found())?))
    }
}

impl DocumentedInput for OfChat {
    fn describe(operation: &mut Operation<'_>) {
        operation.path::<String>();
        operation.path::<RoomId>();
    }
}

/// The key under which a request may be sent again.
pub(super) type IdempotencyKey = http::IdempotencyKey<Refusal>;

/// Where the client found us, as `https://host`; empty where it does not say. It is answered to nobody else,
/// so that a proxy's word is taken for the scheme.
pub(super) struct Base(pub(super) String);

impl FromRequestParts<Api> for Base {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Infallible> {
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let host = text("host").filter(|host| !host.contains('@') && host.parse::<Authority>().is_ok());
        // Of several proxies the first is the one that the client sees.
        let said = text("x-forwarded-proto").and_then(|said| said.split(',').next()).unwrap_or("");
        let is_secure = said.trim().eq_ignore_ascii_case("https");
        let scheme = if is_secure { "https" } else { "http" };
        Ok(Self(host.map_or_else(String::new, |host| format!("{scheme}://{host}"))))
    }
}

impl DocumentedInput for Base {
    fn describe(_: &mut Operation<'_>) {}
}

/// What the query asks for, as it stands in the address.
pub(super) struct Asked(pub(super) String);

impl FromRequestParts<Api> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Infallible> {
        Ok(Self(parts.uri.query().unwrap_or_default().to_owned()))
    }
}

impl DocumentedInput for Asked {
    fn describe(operation: &mut Operation<'_>) {
        operation.query::<wire::ListQuery>();
    }
}

/// The fields of a body, which are read when it is known that they matter.
pub(super) struct Form<T>(Request, PhantomData<T>);

impl<T> FromRequest<Api> for Form<T> {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &Api) -> Result<Self, Infallible> {
        Ok(Self(request, PhantomData))
    }
}

impl<T> Form<T> {
    /// Reads them.
    pub(super) async fn read(self) -> Result<Fields, Refusal> {
        Fields::read(self.0).await
    }
}

impl<T: JsonSchema> DocumentedInput for Form<T> {
    fn describe(operation: &mut Operation<'_>) {
        let kinds = ["multipart/form-data", "application/x-www-form-urlencoded", "application/json"];
        operation.body::<T>(&kinds, false);
        operation.refuses(&[415]);
    }
}
