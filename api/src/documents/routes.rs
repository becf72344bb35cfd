//! A surface's routes: where one is declared, it is documented.

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
    operation::{DocumentedHandler, Operation},
    schemas::SchemaSet,
};
use crate::commands::state::Api;

/// How a surface refuses.
pub(crate) trait DocumentedRefusal {
    /// The media type.
    const KIND: &str;
    /// The form of the body.
    fn form(schemas: &mut SchemaSet) -> Value;
}

/// What any request may be refused with: by its origin, its slowness, its frequency, or by what is down.
const ALWAYS: [u16; 7] = [400, 403, 404, 408, 429, 500, 503];
/// What one that changes something may be refused with besides.
const CHANGES: [u16; 2] = [409, 422];

/// A surface: its routes and their part of the document.
pub(crate) struct Routes {
    pub(super) router: Router<Api>,
    pub(super) paths: Map<String, Value>,
    pub(super) schemas: SchemaSet,
    pub(super) refusals: BTreeMap<String, Value>,
    pub(super) tag: Value,
    name: &'static str,
}

/// One method of an address.
#[derive(Clone)]
pub(crate) struct Route {
    method: Method,
    about: &'static str,
    handler: MethodRouter<Api>,
    describe: fn(&mut Operation<'_>),
}

fn route<H, T>(method: Method, about: &'static str, handler: H) -> Route
where
    H: Handler<T, Api> + DocumentedHandler<T>,
    T: 'static,
{
    let filter = MethodFilter::try_from(method.clone()).expect("a method that routes know");
    Route { method, about, handler: on(filter, handler), describe: H::describe }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $method:ident;)*) => {
        $($(#[$doc])*
        pub(crate) fn $name<H, T>(about: &'static str, handler: H) -> Route
        where
            H: Handler<T, Api> + DocumentedHandler<T>,
            T: 'static,
        {
            route(Method::$method, about, handler)
        })*
    };
}

methods! {
    /// What a `GET` answers.
    get = GET;
    /// What a `POST` does.
    post = POST;
    /// What a `PUT` does.
    put = PUT;
    /// What a `PATCH` does.
    patch = PATCH;
    /// What a `DELETE` does.
    delete = DELETE;
}

impl Route {
    /// Answers `HEAD` by that handler instead of the one of `GET`.
    pub(crate) fn head<H: Handler<T, Api>, T: 'static>(self, handler: H) -> Self {
        Self { handler: self.handler.head(handler), ..self }
    }

    /// Takes bodies of that size.
    pub(crate) fn limit(self, limit: DefaultBodyLimit) -> Self {
        Self { handler: self.handler.layer(limit), ..self }
    }
}

impl Routes {
    /// A surface without routes yet.
    pub(crate) fn of<R: DocumentedRefusal>(name: &'static str, about: &'static str) -> Self {
        let mut schemas =
            SchemaSet::new(name, SchemaSettings::draft2020_12().with(|settings| settings.meta_schema = None));
        let schema = R::form(&mut schemas);
        let content = json!({ R::KIND: { "schema": schema } });
        let statuses: BTreeSet<u16> = ErrorCode::ALL.iter().map(|code| code.status()).collect();
        let refusals =
            statuses.into_iter().map(|status| (format!("{name}.{status}"), refusal(status, &content)));
        Self {
            router: Router::new(),
            paths: Map::new(),
            refusals: refusals.collect(),
            schemas,
            tag: json!({ "name": name, "description": about }),
            name,
        }
    }

    /// An address and its methods.
    pub(crate) fn at<const N: usize>(mut self, path: &str, routes: [Route; N]) -> Self {
        let mut operations = Map::new();
        let mut methods = MethodRouter::new();
        for route in routes {
            operations.insert(route.method.as_str().to_ascii_lowercase(), self.operation(path, &route));
            methods = methods.merge(route.handler);
        }
        self.paths.insert(path.to_owned(), operations.into());
        self.router = self.router.route(path, methods);
        self
    }

    /// The same, with and without a slash at the address's end.
    pub(crate) fn at_both<const N: usize>(self, path: &str, routes: [Route; N]) -> Self {
        self.at(path, routes.clone()).at(&format!("{path}/"), routes)
    }

    /// With this for all its routes.
    pub(crate) fn map(self, change: impl FnOnce(Router<Api>) -> Router<Api>) -> Self {
        Self { router: change(self.router), ..self }
    }

    fn operation(&mut self, path: &str, route: &Route) -> Value {
        let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let names: Vec<String> = names.map(str::to_owned).collect();
        let mut operation = Operation {
            schemas: &mut self.schemas,
            names,
            parameters: vec![],
            body: None,
            security: None,
            refusals: ALWAYS.to_vec(),
            answers: BTreeMap::new(),
        };
        (route.describe)(&mut operation);
        while !operation.names.is_empty() {
            // Part of the address alone.
            operation.path::<String>();
        }
        if !route.method.is_safe() {
            operation.refuses(&CHANGES);
        }
        let Operation { parameters, body, security, refusals, answers, .. } = operation;
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
            "summary": route.about,
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

/// A refusal, with the codes that have that status.
fn refusal(status: u16, content: &Value) -> Value {
    let codes = ErrorCode::ALL.iter().filter(|code| code.status() == status);
    let about: Vec<String> =
        codes.map(|code| format!("`{}`: {}", code.as_str(), code.meaning().trim())).collect();
    let mut headers = json!({});
    let header = |about: &str, kind: &str| json!({ "description": about, "schema": { "type": kind } });
    match status {
        401 => headers["WWW-Authenticate"] = header("Which tokens count.", "string"),
        429 | 503 => headers["Retry-After"] = header("Seconds after which trying again helps.", "integer"),
        _ => {}
    }
    json!({ "description": about.join("\n\n"), "headers": headers, "content": content })
}
