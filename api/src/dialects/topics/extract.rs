//! Extracts the caller, the category of the path, and the address that the client used.

use std::{convert::Infallible, marker::PhantomData};

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{header, request::Parts, uri::Authority},
};
use schemars::JsonSchema;

use super::{body::FormFields, errors::Rejection, wire};
use crate::{
    commands::state::SharedApiState,
    dialects::http,
    documents::{DocumentedInput, OperationBuilder},
};

/// Who asks, where somebody says so; a token that does not count is refused.
pub(super) struct OptionalCaller(Option<protocol::caller::Caller>);

impl FromRequestParts<SharedApiState> for OptionalCaller {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &SharedApiState) -> Result<Self, Rejection> {
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

/// Who asks, by a valid token.
pub(super) struct Authenticated(pub(super) protocol::caller::Caller);

impl FromRequestParts<SharedApiState> for Authenticated {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &SharedApiState) -> Result<Self, Rejection> {
        let OptionalCaller(caller) = OptionalCaller::from_request_parts(parts, api).await?;
        caller.map(Self).ok_or_else(Rejection::token_missing)
    }
}

impl DocumentedInput for Authenticated {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.token_security(true);
    }
}

/// The category that the path names.
pub(super) struct CategoryPath(pub(super) String);

impl FromRequestParts<SharedApiState> for CategoryPath {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &SharedApiState) -> Result<Self, Rejection> {
        let path = Path::<String>::from_request_parts(parts, api).await;
        let Path(category) = path.map_err(|_| Rejection::wrong_room())?;
        if api.topic_categories.contains(&category) {
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

/// The key under which a request may be sent again.
pub(super) type IdempotencyKey = http::IdempotencyKey<Rejection>;

/// Where the client found us, as `https://host`; empty where it does not say. It is answered to nobody else,
/// so that a proxy's word is taken for the scheme.
pub(super) struct BaseUrl(pub(super) String);

impl FromRequestParts<SharedApiState> for BaseUrl {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &SharedApiState) -> Result<Self, Infallible> {
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let host = text("host").filter(|host| !host.contains('@') && host.parse::<Authority>().is_ok());
        // Of several proxies the first is the one that the client sees.
        let said = text("x-forwarded-proto").and_then(|said| said.split(',').next()).unwrap_or("");
        let is_secure = said.trim().eq_ignore_ascii_case("https");
        let scheme = if is_secure { "https" } else { "http" };
        Ok(Self(host.map_or_else(String::new, |host| format!("{scheme}://{host}"))))
    }
}

impl DocumentedInput for BaseUrl {
    fn describe(_: &mut OperationBuilder<'_>) {}
}

/// What the query asks for, as it stands in the address.
pub(super) struct PageQuery(pub(super) String);

impl FromRequestParts<SharedApiState> for PageQuery {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &SharedApiState) -> Result<Self, Infallible> {
        Ok(Self(parts.uri.query().unwrap_or_default().to_owned()))
    }
}

impl DocumentedInput for PageQuery {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.query_parameters::<wire::ListQuery>();
    }
}

/// The fields of a body, which are read when it is known that they matter.
pub(super) struct LazyForm<T>(Request, PhantomData<T>);

impl<T> FromRequest<SharedApiState> for LazyForm<T> {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &SharedApiState) -> Result<Self, Infallible> {
        Ok(Self(request, PhantomData))
    }
}

impl<T> LazyForm<T> {
    /// Reads them.
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
