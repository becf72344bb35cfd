//! Generates the OpenAPI document of all HTTP surfaces.

use serde_json::{Map, Value, json};

use super::{ABOUT, routes::DocumentedRoutes};

/// Returns the document of these surfaces, and their routes.
pub(super) fn build(surfaces: Vec<DocumentedRoutes>) -> (Value, axum::Router<crate::state::ApiState>) {
    let (mut paths, mut schemas, mut responses) = (Map::new(), Map::new(), Map::new());
    let mut tags = Vec::new();
    let mut router = axum::Router::new();
    for surface in surfaces {
        paths.extend(surface.paths);
        surface.schemas.write_definitions(&mut schemas);
        responses.extend(surface.rejections);
        tags.push(surface.tag);
        router = router.merge(surface.router);
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Roomcast",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!("{ABOUT} Sockets and subjects are in [asyncapi.json](/asyncapi.json)."),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A JWT of the host application, with the claims `user_id` or `sub`, and `exp`.",
                },
            },
        },
    });
    (document, router)
}
