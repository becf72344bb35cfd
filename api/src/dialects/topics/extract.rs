//! Extracts the caller, the category and chat id of the path, and the base URL that the client used.

use std::{convert::Infallible, marker::PhantomData};

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{header, request::Parts, uri::Authority},
};
use schemars::JsonSchema;

use super::{body::FormFields, errors::Rejection, wire};
use crate::{
    dialects::http,
    documents::{DocumentedInput, OperationBuilder},
    state::ApiState,
};

/// The caller, or `None` without a token; an invalid token is refused. The schemes `Bearer`, `Token` and `JWT` are
/// accepted; a header with any other scheme is ignored.
pub(super) struct OptionalCaller(Option<protocol::caller::Caller>);

impl FromRequestParts<ApiState> for OptionalCaller {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, Rejection> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let mut words = header.unwrap_or("").split_whitespace();
        let is_ours = words.next().is_some_and(|scheme| {
            ["bearer", "token", "jwt"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
        });
        if !is_ours {
            return Ok(Self(None));
        }
        if words.count() != 1 {
            return Err(Rejection::bad_header());
        }
        Ok(Self(http::authenticate(parts, api, !parts.method.is_safe()).await?))
    }
}

impl DocumentedInput for OptionalCaller {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.token_security(false);
    }
}

/// The caller, by a valid token; without one 401.
pub(super) struct Authenticated(pub(super) protocol::caller::Caller);

impl FromRequestParts<ApiState> for Authenticated {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, Rejection> {
        let OptionalCaller(caller) = OptionalCaller::from_request_parts(parts, api).await?;
        caller.map(Self).ok_or_else(Rejection::token_missing)
    }
}

impl DocumentedInput for Authenticated {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.token_security(true);
    }
}

/// The category of the path, which must be one of the configured ones.
pub(super) struct CategoryPath(pub(super) String);

impl FromRequestParts<ApiState> for CategoryPath {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, Rejection> {
        let path = Path::<String>::from_request_parts(parts, api).await;
        let Path(category) = path.map_err(|_| Rejection::wrong_room())?;
        if api.dialects.topic_categories.contains(&category) {
            Ok(Self(category))
        } else {
            Err(Rejection::wrong_room())
        }
    }
}

impl DocumentedInput for CategoryPath {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.path_parameter::<String>();
    }
}

/// The `Idempotency-Key`, with errors in this dialect's format.
pub(super) type IdempotencyKey = http::IdempotencyKey<Rejection>;

/// The base URL that the client used, as `https://host`; empty without a valid `Host` header. `X-Forwarded-Proto`
/// is trusted from anyone: only the client that sent it gets the URL back.
pub(super) struct BaseUrl(pub(super) String);

impl FromRequestParts<ApiState> for BaseUrl {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Infallible> {
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let host = text("host").filter(|host| !host.contains('@') && host.parse::<Authority>().is_ok());
        // With several proxies, the first entry is that of the proxy which the client talks to.
        let protocol =
            text("x-forwarded-proto").and_then(|protocol| protocol.split(',').next()).unwrap_or("");
        let is_secure = protocol.trim().eq_ignore_ascii_case("https");
        let scheme = if is_secure { "https" } else { "http" };
        Ok(Self(host.map_or_else(String::new, |host| format!("{scheme}://{host}"))))
    }
}

impl DocumentedInput for BaseUrl {
    fn describe(_: &mut OperationBuilder<'_>) {}
}

/// The raw query of the URL.
pub(super) struct PageQuery(pub(super) String);

impl FromRequestParts<ApiState> for PageQuery {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Infallible> {
        Ok(Self(parts.uri.query().unwrap_or_default().to_owned()))
    }
}

impl DocumentedInput for PageQuery {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.query_parameters::<wire::ListQuery>();
    }
}

/// A body that the handler reads after its other checks; `T` is its schema for `openapi.json`.
pub(super) struct LazyForm<T>(Request, PhantomData<T>);

impl<T> FromRequest<ApiState> for LazyForm<T> {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &ApiState) -> Result<Self, Infallible> {
        Ok(Self(request, PhantomData))
    }
}

impl<T> LazyForm<T> {
    /// Reads the body's fields.
    pub(super) async fn read(self) -> Result<FormFields, Rejection> {
        FormFields::read(self.0).await
    }
}

impl<T: JsonSchema> DocumentedInput for LazyForm<T> {
    fn describe(operation: &mut OperationBuilder<'_>) {
        let kinds = ["multipart/form-data", "application/x-www-form-urlencoded", "application/json"];
        operation.request_body::<T>(&kinds, false);
        operation.rejects_with(&[415]);
    }
}
