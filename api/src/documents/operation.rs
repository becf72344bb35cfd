//! What a handler's signature says of its operation: each extractor adds what it reads and how it refuses,
//! the answer adds its status and form.

use std::{collections::BTreeMap, future::Future};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::NoContent,
};
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::schemas::SchemaSet;

/// An operation as its handler's parts describe it.
pub(crate) struct OperationBuilder<'a> {
    pub(super) schemas: &'a mut SchemaSet,
    /// The names in the path that no extractor has taken yet.
    pub(super) path_names: Vec<String>,
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<Value>,
    pub(super) security: Option<Value>,
    pub(super) rejection_statuses: Vec<u16>,
    pub(super) responses: BTreeMap<u16, Value>,
}

impl OperationBuilder<'_> {
    /// The next name of the path is of that form.
    pub(crate) fn path_parameter<T: JsonSchema>(&mut self) {
        let schema = self.schemas.response_schema::<T>();
        assert!(!self.path_names.is_empty(), "more is read of the path than it has");
        let name = self.path_names.remove(0);
        self.parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }

    /// The query has these fields.
    pub(crate) fn query_parameters<T: JsonSchema>(&mut self) {
        let fields = self.schemas.request_fields::<T>();
        for (name, schema) in fields["properties"].as_object().into_iter().flatten() {
            let mut schema = schema.clone();
            // A query can't say null, which stands second.
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

    /// A header may be sent.
    pub(crate) fn header_parameter(&mut self, name: &str, about: &str, schema: &Value) {
        self.parameters.push(json!({ "name": name, "in": "header", "description": about, "schema": schema }));
    }

    /// A body of that form, in each of these media types.
    pub(crate) fn request_body<T: JsonSchema>(&mut self, kinds: &[&str], required: bool) {
        let schema = self.schemas.request_schema::<T>();
        let content: Map<String, Value> =
            kinds.iter().map(|kind| ((*kind).to_owned(), json!({ "schema": schema }))).collect();
        self.body = Some(json!({ "required": required, "content": content }));
        self.rejects_with(&[400, 413]);
    }

    /// A token is needed, or, where it is not, counts if it is sent.
    pub(crate) fn token_security(&mut self, required: bool) {
        self.security = Some(if required { json!([{ "token": [] }]) } else { json!([{ "token": [] }, {}]) });
        self.rejects_with(&[401]);
    }

    /// It may be refused with these statuses too.
    pub(crate) fn rejects_with(&mut self, statuses: &[u16]) {
        self.rejection_statuses.extend(statuses);
    }

    /// It may be answered so.
    pub(crate) fn responds(&mut self, status: u16, about: &str, content: Value) {
        let mut answer = json!({ "description": about });
        if !content.is_null() {
            answer["content"] = content;
        }
        self.responses.insert(status, answer);
    }

    /// It may be answered with JSON of that form.
    pub(crate) fn responds_json<T: JsonSchema>(&mut self, status: u16, about: &str) {
        let schema = self.schemas.response_schema::<T>();
        self.responds(status, about, json!({ "application/json": { "schema": schema } }));
    }
}

/// Something that a handler is given.
pub(crate) trait DocumentedInput {
    /// Adds it.
    fn describe(operation: &mut OperationBuilder<'_>);
}

/// What a handler answers.
pub(crate) trait DocumentedOutput {
    /// Adds it.
    fn describe(operation: &mut OperationBuilder<'_>);
}

/// A handler whose parts say what they are.
pub(crate) trait DocumentedHandler<T> {
    /// Adds all of them.
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
