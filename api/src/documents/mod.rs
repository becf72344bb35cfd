//! Generates the machine-readable documents: OpenAPI of every HTTP surface, AsyncAPI of sockets and subjects.
//!
//! What must hold: nothing here repeats a list that the code has elsewhere. An operation is described by its route
//! and its handler's types, a schema by what serde reads or writes.

mod asyncapi;
mod openapi;
mod operation;
mod routes;
mod schemas;

use axum::{Router, http::header, routing};
use bytes::Bytes;
use serde_json::Value;

use crate::state::ApiState;
pub(crate) use asyncapi::SocketActions;
pub(crate) use operation::{DocumentedInput, DocumentedOutput, OperationBuilder};
pub(crate) use routes::{
    DocumentedRejection, DocumentedRoute, DocumentedRoutes, delete, get, patch, post, put,
};
pub(crate) use schemas::SchemaSet;

const ABOUT: &str = "A chat backend with five APIs (dialects) over the same rooms and messages. A message that is \
                     sent through any of them is stored once in a log, and pushed to every socket in its room.";

/// Builds the routes of these surfaces, and the routes of their documents.
pub(crate) fn router(surfaces: Vec<DocumentedRoutes>, actions: &SocketActions) -> Router<ApiState> {
    let (openapi, router) = openapi::build(surfaces);
    router
        .merge(document_route("/openapi.json", &openapi))
        .merge(document_route("/asyncapi.json", &asyncapi::document(actions)))
}

fn document_route(path: &str, document: &Value) -> Router<ApiState> {
    let text = Bytes::from(document.to_string());
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    Router::new().route(path, routing::get(move || std::future::ready((headers, text.clone()))))
}
