//! What a handler is given: who asks, the key of the request, the body; or a refusal.

use std::marker::PhantomData;

use axum::{
    body::{Bytes, HttpBody as _},
    extract::{FromRequest, FromRequestParts, Request},
    http::{Method, request::Parts},
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use shared::{error::Error, rules};

use super::errors::Refusal;
use crate::{
    config::TokenUse,
    dialects::{http, read},
    documents::{Input, Operation},
    state::Api,
};

/// Who asks: whom a token names, or, where none is needed, nobody in particular.
pub(super) struct Asker(pub(super) Option<rules::Caller>);

impl FromRequestParts<Api> for Asker {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        let caller = http::caller(parts, api, !parts.method.is_safe()).await?;
        if caller.is_none() && api.support.support_tokens == TokenUse::Required {
            return Err(Error::token_needed().into());
        }
        Ok(Self(caller))
    }
}

impl Input for Asker {
    fn describe(operation: &mut Operation<'_>) {
        operation.token(false);
    }
}

/// The key under which a request may be sent again.
pub(super) type IdempotencyKey = http::IdempotencyKey<Refusal>;
pub(super) use http::Unkeyed;

/// A body of JSON, which may be read as more than one thing, all of them a `T`; empty where there is none.
pub(super) struct Body<T>(Bytes, PhantomData<T>);

impl<T> FromRequest<Api> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Refusal> {
        // A HEAD asks for no change, whatever it carries.
        if request.method() == Method::HEAD || request.body().is_end_stream() {
            return Ok(Self(Bytes::new(), PhantomData));
        }
        Ok(Self(http::json_body(request, api).await?, PhantomData))
    }
}

impl<T: JsonSchema> Input for Body<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.body::<T>(&["application/json"], false);
        operation.refuses(&[415]);
    }
}

impl<B> Body<B> {
    /// Reads it as that.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        Ok(read::json(&self.0)?)
    }

    /// Reads it as that, where there is one.
    pub(super) fn if_any<T: DeserializeOwned + Default>(&self) -> Result<T, Refusal> {
        if self.0.is_empty() { Ok(T::default()) } else { self.json() }
    }
}
