//! The documents that machines read: OpenAPI of every HTTP surface, AsyncAPI of sockets and subjects.
//!
//! What must hold: nothing here is a second list. An operation is what its route and its handler's types say,
//! a schema is what serde reads or writes.

mod asyncapi;
mod openapi;
mod operation;
mod routes;
mod schemas;

use axum::{Router, http::header, routing};
use bytes::Bytes;
use serde_json::Value;

use crate::commands::state::Api;
pub(crate) use asyncapi::SocketActions;
pub(crate) use operation::{DocumentedInput, DocumentedOutput, Operation};
pub(crate) use routes::{DocumentedRefusal, Route, Routes, delete, get, patch, post, put};
pub(crate) use schemas::SchemaSet;

const ABOUT: &str = "A chat backend whose centre is a log. Five dialects are views of one model: what is sent \
                     through any of them is stored once and reaches every socket of its room.";

/// The surfaces' routes, and the documents of them.
pub(crate) fn router(surfaces: Vec<Routes>, actions: &SocketActions) -> Router<Api> {
    let (openapi, router) = openapi::of(surfaces);
    router
        .merge(serve("/openapi.json", &openapi))
        .merge(serve("/asyncapi.json", &asyncapi::document(actions)))
}

fn serve(path: &str, document: &Value) -> Router<Api> {
    let text = Bytes::from(document.to_string());
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    Router::new().route(path, routing::get(move || std::future::ready((headers, text.clone()))))
}
