//! Generates the AsyncAPI document: sockets, and the subjects between the services.

mod parts;
mod sockets;
mod subjects;

use serde_json::{Value, json};

use super::ABOUT;
use parts::AsyncApiParts;
pub(crate) use sockets::SocketActions;

/// Generates the document.
pub(super) fn document(actions: &SocketActions) -> Value {
    let mut parts = AsyncApiParts::default();
    sockets::add(&mut parts, actions);
    subjects::add(&mut parts);
    let host = |port: u16| json!({ "host": { "default": format!("127.0.0.1:{port}") } });
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Roomcast",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!("{ABOUT} HTTP is in [openapi.json](/openapi.json)."),
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "sockets": {
                "host": "{host}",
                "protocol": "ws",
                "variables": host(8080),
                "security": [
                    { "$ref": "#/components/securitySchemes/header" },
                    { "$ref": "#/components/securitySchemes/query" },
                ],
            },
            "log": { "host": "{host}", "protocol": "nats", "variables": host(4222) },
        },
        "channels": parts.channels,
        "operations": parts.operations,
        "components": {
            "messages": parts.messages,
            "schemas": parts.schemas,
            "securitySchemes": {
                "header": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
                "query": { "type": "httpApiKey", "name": "token", "in": "query" },
            },
        },
    })
}
