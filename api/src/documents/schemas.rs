//! Schemas of one surface, made from the types that serde reads and writes.
//!
//! What must hold: a name stands for one form. What is read and what is written are told apart by serde's
//! two contracts, and each surface's names begin with its own.

use protocol::json::SchemaFn;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

/// Where both sorts of documents keep their schemas.
const PLACE: &str = "/components/schemas";

/// The schemas of a surface.
pub(crate) struct SchemaSet {
    surface: &'static str,
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl SchemaSet {
    /// None yet; of the dialect of JSON Schema that the document is written in.
    pub(super) fn new(surface: &'static str, settings: SchemaSettings) -> Self {
        let settings = settings.with(|settings| settings.definitions_path = PLACE.into());
        let read = settings.clone().for_deserialize().into_generator();
        Self { surface, read, written: settings.for_serialize().into_generator() }
    }

    /// What clients send.
    pub(crate) fn read<T: JsonSchema>(&mut self) -> Value {
        self.read_as(SchemaGenerator::subschema_for::<T>)
    }

    /// What clients are sent.
    pub(crate) fn written<T: JsonSchema>(&mut self) -> Value {
        self.written_as(SchemaGenerator::subschema_for::<T>)
    }

    /// What clients send, by its form.
    pub(super) fn read_as(&mut self, form: SchemaFn) -> Value {
        let schema = form(&mut self.read).to_value();
        self.own(schema)
    }

    /// What clients are sent, by its form.
    pub(super) fn written_as(&mut self, form: SchemaFn) -> Value {
        let schema = form(&mut self.written).to_value();
        self.own(schema)
    }

    /// What a type that is read has in it, without a name for the whole.
    pub(super) fn fields<T: JsonSchema>(&mut self) -> Value {
        let schema = T::json_schema(&mut self.read).to_value();
        self.own(schema)
    }

    /// Puts them among the others of a document.
    pub(super) fn finish(mut self, all: &mut Map<String, Value>) {
        let read = self.read.take_definitions(true);
        for (name, schema) in read.into_iter().chain(self.written.take_definitions(true)) {
            let name = format!("{}.{name}", self.surface);
            let schema = self.own(schema);
            let other = all.insert(name.clone(), schema.clone());
            assert!(
                other.is_none_or(|other| other == schema),
                "{name} is read in one form and written in another"
            );
        }
    }

    /// With this surface's names.
    fn own(&self, mut schema: Value) -> Value {
        rename(&mut schema, &format!("#{PLACE}/"), self.surface);
        schema
    }
}

fn rename(value: &mut Value, place: &str, surface: &str) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if key == "$ref" => {
                        let name =
                            text.strip_prefix(place).filter(|name| !name.starts_with(&format!("{surface}.")));
                        if let Some(name) = name {
                            *text = format!("{place}{surface}.{name}");
                        }
                    }
                    _ => rename(value, place, surface),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rename(value, place, surface)),
        _ => {}
    }
}
