//! Extracts the caller, the `Idempotency-Key` and the body for handlers, or answers an error.

use std::marker::PhantomData;

use axum::{
    body::{Bytes, HttpBody as _},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, HeaderName, Method, header, request::Parts},
    response::{IntoResponse, Response},
};
use protocol::error::Error;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::errors::Rejection;
use crate::{
    commands::support::{SupportCaller, VisitorPass},
    config::TokenUse,
    dialects::{http, json},
    documents::{DocumentedInput, DocumentedOutput, OperationBuilder},
    state::ApiState,
};

/// The header that carries a visitor's pass, for clients that keep no cookies.
pub(crate) const PASS_HEADER: HeaderName = HeaderName::from_static("x-roomcast-visitor");
/// The cookie that carries a visitor's pass. Browsers accept the prefix `__Host-` only with `Secure`, `Path=/` and
/// no `Domain`, so that no other host can set it.
pub(super) const PASS_COOKIE: &str = "__Host-roomcast-visitor";
/// `Max-Age` of the cookie in seconds, counted from the last answer that set it.
const PASS_SECONDS: u32 = 365 * 86_400;

/// The caller of a support request: a person by token, or a visitor where `ROOMCAST_SUPPORT_TOKENS` allows it.
pub(super) struct Sender(pub(super) SupportCaller);

/// The visitor's pass, from the header, else from the cookie; `None` where it is missing or malformed.
fn visitor_pass(headers: &HeaderMap) -> Option<VisitorPass> {
    if let Some(value) = headers.get(PASS_HEADER) {
        return VisitorPass::parse(value.to_str().ok()?);
    }
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| VisitorPass::parse(value).filter(|_| name == PASS_COOKIE))
}

impl FromRequestParts<ApiState> for Sender {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, Rejection> {
        let caller = http::authenticate(parts, api, !parts.method.is_safe()).await?;
        if caller.is_none() && api.dialects.support_tokens == TokenUse::Required {
            return Err(Error::token_needed().into());
        }
        let address = api.gate.client_address_args.of_request(&parts.headers, &parts.extensions);
        Ok(Self(SupportCaller { caller, address, pass: visitor_pass(&parts.headers) }))
    }
}

impl DocumentedInput for Sender {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.token_security(false);
        let about = "With ROOMCAST_SUPPORT_VISITORS=bound: the visitor's secret, from this header of the answer to \
                     the first visit. The cookie that the answer sets has the same secret.";
        operation.header_parameter(
            PASS_HEADER.as_str(),
            about,
            &json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
        );
    }
}

/// An answer that also gives the visitor a pass, in a cookie and in a header; `None` leaves both out.
pub(super) struct WithVisitorPass<T>(pub(super) Option<VisitorPass>, pub(super) T);

impl<T: DocumentedOutput> DocumentedOutput for WithVisitorPass<T> {
    fn describe(operation: &mut OperationBuilder<'_>) {
        T::describe(operation);
    }
}

impl<T: IntoResponse> IntoResponse for WithVisitorPass<T> {
    fn into_response(self) -> Response {
        let Self(pass, answer) = self;
        let Some(pass) = pass else { return answer.into_response() };
        let cookie = format!(
            "{PASS_COOKIE}={}; Max-Age={PASS_SECONDS}; Path=/; HttpOnly; Secure; SameSite=Strict",
            pass.as_str()
        );
        let headers = [(header::SET_COOKIE, cookie), (PASS_HEADER, pass.as_str().to_owned())];
        (headers, answer).into_response()
    }
}

/// The `Idempotency-Key`, with errors in this dialect's format.
pub(super) type IdempotencyKey = http::IdempotencyKey<Rejection>;
pub(super) use http::NoIdempotencyKey;

/// A JSON body that the handler parses, as one of several types; `T` is their schema for `openapi.json`. Empty
/// where the request has no body.
pub(super) struct UntypedJson<T>(Bytes, PhantomData<T>);

impl<T> FromRequest<ApiState> for UntypedJson<T> {
    type Rejection = Rejection;

    async fn from_request(request: Request, api: &ApiState) -> Result<Self, Rejection> {
        // The body of a `HEAD` is ignored: it could ask to close a room.
        if request.method() == Method::HEAD || request.body().is_end_stream() {
            return Ok(Self(Bytes::new(), PhantomData));
        }
        Ok(Self(http::read_json_body(request, api).await?, PhantomData))
    }
}

impl<T: JsonSchema> DocumentedInput for UntypedJson<T> {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.request_body::<T>(&["application/json"], false);
        operation.rejects_with(&[415]);
    }
}

impl<B> UntypedJson<B> {
    /// Parses the body as a `T`.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, Rejection> {
        Ok(json::parse_object(&self.0)?)
    }

    /// Parses the body as a `T`; the default where there is no body.
    pub(super) fn parse_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Rejection> {
        if self.0.is_empty() { Ok(T::default()) } else { self.parse() }
    }
}
