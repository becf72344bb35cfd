//! Generates the schemas of one surface from the types that serde reads and writes.
//!
//! What must hold: each name stands for one schema. Types that are read and types that are written follow serde's two
//! contracts, and each surface's schema names begin with the surface's name.

use protocol::json::SchemaFn;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

/// Where both kinds of documents have their schemas.
const DEFINITIONS_PATH: &str = "/components/schemas";

/// The schemas of one surface.
pub(crate) struct SchemaSet {
    surface: &'static str,
    request_generator: SchemaGenerator,
    response_generator: SchemaGenerator,
}

impl SchemaSet {
    /// Makes an empty set, for the JSON Schema version of the document.
    pub(super) fn new(surface: &'static str, settings: SchemaSettings) -> Self {
        let settings = settings.with(|settings| settings.definitions_path = DEFINITIONS_PATH.into());
        let read = settings.clone().for_deserialize().into_generator();
        Self {
            surface,
            request_generator: read,
            response_generator: settings.for_serialize().into_generator(),
        }
    }

    /// Returns the schema of what clients send as `T`.
    pub(crate) fn request_schema<T: JsonSchema>(&mut self) -> Value {
        self.request_schema_of(SchemaGenerator::subschema_for::<T>)
    }

    /// Returns the schema of what clients get as `T`.
    pub(crate) fn response_schema<T: JsonSchema>(&mut self) -> Value {
        self.response_schema_of(SchemaGenerator::subschema_for::<T>)
    }

    /// Returns the schema of what clients send, made by `form`.
    pub(super) fn request_schema_of(&mut self, form: SchemaFn) -> Value {
        let schema = form(&mut self.request_generator).to_value();
        self.with_surface_names(schema)
    }

    /// Returns the schema of what clients get, made by `form`.
    pub(super) fn response_schema_of(&mut self, form: SchemaFn) -> Value {
        let schema = form(&mut self.response_generator).to_value();
        self.with_surface_names(schema)
    }

    /// Returns the fields of a type that clients send, without a name for the type.
    pub(super) fn request_fields<T: JsonSchema>(&mut self) -> Value {
        let schema = T::json_schema(&mut self.request_generator).to_value();
        self.with_surface_names(schema)
    }

    /// Adds the named schemas to those of a document.
    pub(super) fn write_definitions(mut self, all: &mut Map<String, Value>) {
        let read = self.request_generator.take_definitions(true);
        for (name, schema) in read.into_iter().chain(self.response_generator.take_definitions(true)) {
            let name = format!("{}.{name}", self.surface);
            let schema = self.with_surface_names(schema);
            let other = all.insert(name.clone(), schema.clone());
            assert!(
                other.is_none_or(|other| other == schema),
                "{name} is read in one form and written in another"
            );
        }
    }

    /// Prefixes the references in a schema with the surface's name.
    fn with_surface_names(&self, mut schema: Value) -> Value {
        prefix_references(&mut schema, &format!("#{DEFINITIONS_PATH}/"), self.surface);
        schema
    }
}

fn prefix_references(value: &mut Value, prefix: &str, surface: &str) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if key == "$ref" => {
                        let name = text
                            .strip_prefix(prefix)
                            .filter(|name| !name.starts_with(&format!("{surface}.")));
                        if let Some(name) = name {
                            *text = format!("{prefix}{surface}.{name}");
                        }
                    }
                    _ => prefix_references(value, prefix, surface),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| prefix_references(value, prefix, surface)),
        _ => {}
    }
}
