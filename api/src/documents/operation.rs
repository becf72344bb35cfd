//! Derives an operation's documentation from its handler's signature: each extractor adds what it reads and how it
//! refuses, the return type adds status and schema.

use std::{collections::BTreeMap, future::Future};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::NoContent,
};
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::schemas::SchemaSet;

/// An operation, as its handler's argument and return types describe it.
pub(crate) struct OperationBuilder<'a> {
    pub(super) schemas: &'a mut SchemaSet,
    /// The parameters of the path that no extractor has described yet.
    pub(super) path_names: Vec<String>,
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<Value>,
    pub(super) security: Option<Value>,
    pub(super) rejection_statuses: Vec<u16>,
    pub(super) responses: BTreeMap<u16, Value>,
}

impl OperationBuilder<'_> {
    /// Gives the next parameter of the path the schema of `T`.
    pub(crate) fn path_parameter<T: JsonSchema>(&mut self) {
        let schema = self.schemas.response_schema::<T>();
        assert!(!self.path_names.is_empty(), "more is read of the path than it has");
        let name = self.path_names.remove(0);
        self.parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }

    /// Adds the fields of `T` as parameters of the query.
    pub(crate) fn query_parameters<T: JsonSchema>(&mut self) {
        let fields = self.schemas.request_fields::<T>();
        for (name, schema) in fields["properties"].as_object().into_iter().flatten() {
            let mut schema = schema.clone();
            // A query can't contain null: only the first of the types applies.
            if let Some(kind) = schema["type"].as_array().map(|kinds| kinds[0].clone()) {
                schema["type"] = kind;
            }
            let about = schema.as_object_mut().and_then(|schema| {
                schema.remove("default");
                schema.remove("description")
            });
            let mut parameter = json!({ "name": name, "in": "query", "schema": schema });
            if let Some(about) = about {
                parameter["description"] = about;
            }
            self.parameters.push(parameter);
        }
    }

    /// Adds an optional header.
    pub(crate) fn header_parameter(&mut self, name: &str, about: &str, schema: &Value) {
        self.parameters.push(json!({ "name": name, "in": "header", "description": about, "schema": schema }));
    }

    /// Adds a body with the schema of `T`, in each of these media types.
    pub(crate) fn request_body<T: JsonSchema>(&mut self, kinds: &[&str], required: bool) {
        let schema = self.schemas.request_schema::<T>();
        let content: Map<String, Value> =
            kinds.iter().map(|kind| ((*kind).to_owned(), json!({ "schema": schema }))).collect();
        self.body = Some(json!({ "required": required, "content": content }));
        self.rejects_with(&[400, 413]);
    }

    /// Adds a token, required or optional.
    pub(crate) fn token_security(&mut self, required: bool) {
        self.security = Some(if required { json!([{ "token": [] }]) } else { json!([{ "token": [] }, {}]) });
        self.rejects_with(&[401]);
    }

    /// Adds statuses of refusals.
    pub(crate) fn rejects_with(&mut self, statuses: &[u16]) {
        self.rejection_statuses.extend(statuses);
    }

    /// Adds an answer.
    pub(crate) fn responds(&mut self, status: u16, about: &str, content: Value) {
        let mut answer = json!({ "description": about });
        if !content.is_null() {
            answer["content"] = content;
        }
        self.responses.insert(status, answer);
    }

    /// Adds a JSON answer with the schema of `T`.
    pub(crate) fn responds_json<T: JsonSchema>(&mut self, status: u16, about: &str) {
        let schema = self.schemas.response_schema::<T>();
        self.responds(status, about, json!({ "application/json": { "schema": schema } }));
    }
}

/// An argument of a handler that describes itself.
pub(crate) trait DocumentedInput {
    /// Adds its description to the operation.
    fn describe(operation: &mut OperationBuilder<'_>);
}

/// The return type of a handler, which describes itself.
pub(crate) trait DocumentedOutput {
    /// Adds its description to the operation.
    fn describe(operation: &mut OperationBuilder<'_>);
}

/// A handler whose argument and return types describe themselves.
pub(crate) trait DocumentedHandler<T> {
    /// Adds all their descriptions to the operation.
    fn describe(operation: &mut OperationBuilder<'_>);
}

macro_rules! described {
    ($($input:ident)*) => {
        impl<F, Answering, Answer, M, $($input,)*> DocumentedHandler<(M, $($input,)*)> for F
        where
            F: Fn($($input,)*) -> Answering,
            Answering: Future<Output = Answer>,
            Answer: DocumentedOutput,
            $($input: DocumentedInput,)*
        {
            fn describe(operation: &mut OperationBuilder<'_>) {
                $($input::describe(operation);)*
                Answer::describe(operation);
            }
        }
    };
}

described!(A);
described!(A B);
described!(A B C);
described!(A B C D);
described!(A B C D E);
described!(A B C D E G);

impl<S> DocumentedInput for State<S> {
    fn describe(_: &mut OperationBuilder<'_>) {}
}

impl<T: JsonSchema> DocumentedInput for Result<Query<T>, QueryRejection> {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.query_parameters::<T>();
        operation.rejects_with(&[400]);
    }
}

impl<T: DocumentedOutput, E> DocumentedOutput for Result<T, E> {
    fn describe(operation: &mut OperationBuilder<'_>) {
        T::describe(operation);
    }
}

impl<T: JsonSchema> DocumentedOutput for Json<T> {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.responds_json::<T>(200, "Done.");
    }
}

impl DocumentedOutput for NoContent {
    fn describe(operation: &mut OperationBuilder<'_>) {
        operation.responds(204, "Done.", Value::Null);
    }
}
