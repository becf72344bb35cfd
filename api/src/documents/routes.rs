//! Collects a surface's routes with their documentation.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    handler::Handler,
    http::Method,
    routing::{MethodFilter, MethodRouter, on},
};
use protocol::error::ErrorCode;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{
    operation::{DocumentedHandler, OperationBuilder},
    schemas::SchemaSet,
};
use crate::state::ApiState;

/// The form in which a surface refuses requests.
pub(crate) trait DocumentedRejection {
    /// The media type of the body.
    const CONTENT_TYPE: &str;
    /// The schema of the body.
    fn schema(schemas: &mut SchemaSet) -> Value;
}

/// Statuses with which any request may be refused: by its origin, timeout, rate limit, or an unavailable service.
const ALWAYS_POSSIBLE_STATUSES: [u16; 7] = [400, 403, 404, 408, 429, 500, 503];
/// Further statuses with which a write may be refused.
const WRITE_STATUSES: [u16; 2] = [409, 422];

/// A surface: its routes and their part of the document.
pub(crate) struct DocumentedRoutes {
    pub(super) router: Router<ApiState>,
    pub(super) paths: Map<String, Value>,
    pub(super) schemas: SchemaSet,
    pub(super) rejections: BTreeMap<String, Value>,
    pub(super) tag: Value,
    name: &'static str,
}

/// One method of a path.
#[derive(Clone)]
pub(crate) struct DocumentedRoute {
    method: Method,
    summary: &'static str,
    handler: MethodRouter<ApiState>,
    describe: fn(&mut OperationBuilder<'_>),
}

fn route<H, T>(method: Method, about: &'static str, handler: H) -> DocumentedRoute
where
    H: Handler<T, ApiState> + DocumentedHandler<T>,
    T: 'static,
{
    let filter = MethodFilter::try_from(method.clone()).expect("a method that routes know");
    DocumentedRoute { method, summary: about, handler: on(filter, handler), describe: H::describe }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $method:ident;)*) => {
        $($(#[$doc])*
        pub(crate) fn $name<H, T>(about: &'static str, handler: H) -> DocumentedRoute
        where
            H: Handler<T, ApiState> + DocumentedHandler<T>,
            T: 'static,
        {
            route(Method::$method, about, handler)
        })*
    };
}

methods! {
    /// Makes a documented `GET` of a path.
    get = GET;
    /// Makes a documented `POST` of a path.
    post = POST;
    /// Makes a documented `PUT` of a path.
    put = PUT;
    /// Makes a documented `PATCH` of a path.
    patch = PATCH;
    /// Makes a documented `DELETE` of a path.
    delete = DELETE;
}

impl DocumentedRoute {
    /// Answers `HEAD` with this handler instead of the handler of `GET`.
    pub(crate) fn head<H: Handler<T, ApiState>, T: 'static>(self, handler: H) -> Self {
        Self { handler: self.handler.head(handler), ..self }
    }

    /// Sets the maximum size of bodies.
    pub(crate) fn body_limit(self, limit: DefaultBodyLimit) -> Self {
        Self { handler: self.handler.layer(limit), ..self }
    }
}

impl DocumentedRoutes {
    /// Makes a surface without routes.
    pub(crate) fn new<R: DocumentedRejection>(name: &'static str, about: &'static str) -> Self {
        let mut schemas =
            SchemaSet::new(name, SchemaSettings::draft2020_12().with(|settings| settings.meta_schema = None));
        let schema = R::schema(&mut schemas);
        let content = json!({ R::CONTENT_TYPE: { "schema": schema } });
        let statuses: BTreeSet<u16> = ErrorCode::ALL.iter().map(|code| code.status()).collect();
        let refusals = statuses
            .into_iter()
            .map(|status| (format!("{name}.{status}"), rejection_response(status, &content)));
        Self {
            router: Router::new(),
            paths: Map::new(),
            rejections: refusals.collect(),
            schemas,
            tag: json!({ "name": name, "description": about }),
            name,
        }
    }

    /// Adds a path and its methods.
    pub(crate) fn route<const N: usize>(mut self, path: &str, routes: [DocumentedRoute; N]) -> Self {
        let mut operations = Map::new();
        let mut methods = MethodRouter::new();
        for route in routes {
            operations
                .insert(route.method.as_str().to_ascii_lowercase(), self.describe_operation(path, &route));
            methods = methods.merge(route.handler);
        }
        self.paths.insert(path.to_owned(), operations.into());
        self.router = self.router.route(path, methods);
        self
    }

    /// Adds a path and its methods, with and without a slash at the end.
    pub(crate) fn route_with_slash<const N: usize>(self, path: &str, routes: [DocumentedRoute; N]) -> Self {
        self.route(path, routes.clone()).route(&format!("{path}/"), routes)
    }

    /// Applies a change to the router of all routes.
    pub(crate) fn map_router(self, change: impl FnOnce(Router<ApiState>) -> Router<ApiState>) -> Self {
        Self { router: change(self.router), ..self }
    }

    fn describe_operation(&mut self, path: &str, route: &DocumentedRoute) -> Value {
        let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let names: Vec<String> = names.map(str::to_owned).collect();
        let mut operation = OperationBuilder {
            schemas: &mut self.schemas,
            path_names: names,
            parameters: vec![],
            body: None,
            security: None,
            rejection_statuses: ALWAYS_POSSIBLE_STATUSES.to_vec(),
            responses: BTreeMap::new(),
        };
        (route.describe)(&mut operation);
        while !operation.path_names.is_empty() {
            // No extractor reads this parameter.
            operation.path_parameter::<String>();
        }
        if !route.method.is_safe() {
            operation.rejects_with(&WRITE_STATUSES);
        }
        let OperationBuilder {
            parameters,
            body,
            security,
            rejection_statuses: refusals,
            responses: answers,
            ..
        } = operation;
        let mut responses: Map<String, Value> = refusals
            .into_iter()
            .map(|status| {
                (
                    status.to_string(),
                    json!({ "$ref": format!("#/components/responses/{}.{status}", self.name) }),
                )
            })
            .collect();
        responses.extend(answers.into_iter().map(|(status, answer)| (status.to_string(), answer)));
        let mut described = json!({
            "tags": [self.name],
            "operationId": format!("{}{}", route.method.as_str().to_ascii_lowercase(), path.replace(['/', '{', '}'], "_")),
            "summary": route.summary,
            "parameters": parameters,
            "responses": responses,
            "security": security.unwrap_or_else(|| json!([])),
        });
        if let Some(body) = body {
            described["requestBody"] = body;
        }
        described
    }
}

/// Describes a refusal with all error codes of a status.
fn rejection_response(status: u16, content: &Value) -> Value {
    let codes = ErrorCode::ALL.iter().filter(|code| code.status() == status);
    let about: Vec<String> =
        codes.map(|code| format!("`{}`: {}", code.as_str(), code.meaning().trim())).collect();
    let mut headers = json!({});
    let header = |about: &str, kind: &str| json!({ "description": about, "schema": { "type": kind } });
    match status {
        401 => headers["WWW-Authenticate"] = header("The scheme of the token that is needed.", "string"),
        429 | 503 => headers["Retry-After"] = header("Seconds to wait before the next try.", "integer"),
        _ => {}
    }
    json!({ "description": about.join("\n\n"), "headers": headers, "content": content })
}
