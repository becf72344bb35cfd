//! Collects the parts of the AsyncAPI document.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::documents::schemas::SchemaSet;

/// Channels, operations, messages and schemas, by their names.
#[derive(Default)]
pub(super) struct AsyncApiParts {
    pub(super) channels: Map<String, Value>,
    pub(super) operations: Map<String, Value>,
    pub(super) messages: Map<String, Value>,
    pub(super) schemas: Map<String, Value>,
}

/// Makes the schemas of a group. AsyncAPI's own version of JSON Schema is a superset of draft 7.
pub(super) fn new_schemas(of: &'static str) -> SchemaSet {
    SchemaSet::new(of, SchemaSettings::draft07().with(|settings| settings.meta_schema = None))
}

impl AsyncApiParts {
    /// Adds a message.
    pub(super) fn add_message(&mut self, name: &str, about: &str, payload: &Value) {
        let message = json!({ "name": name, "summary": about.trim(), "payload": payload });
        self.messages.insert(name.to_owned(), message);
    }

    /// Adds a channel with these messages and further fields.
    pub(super) fn add_channel(&mut self, name: &str, messages: &[String], more: Value) {
        let reference = |message: &String| {
            (message.clone(), json!({ "$ref": format!("#/components/messages/{message}") }))
        };
        let messages: Map<String, Value> = messages.iter().map(reference).collect();
        let mut channel = more;
        channel["messages"] = messages.into();
        self.channels.insert(name.to_owned(), channel);
    }

    /// Adds an operation on a channel: Roomcast sends or receives these of its messages.
    pub(super) fn add_operation(&mut self, name: &str, action: &str, channel: &str, messages: &[String]) {
        let operation = json!({
            "action": action,
            "channel": { "$ref": format!("#/channels/{channel}") },
            "messages": references(channel, messages),
        });
        self.operations.insert(name.to_owned(), operation);
    }

    /// Adds an operation in which Roomcast receives a message and answers it on the same channel.
    pub(super) fn add_request(&mut self, name: &str, channel: &str, message: &str, answers: &[String]) {
        self.add_operation(name, "receive", channel, &[message.to_owned()]);
        self.operations[name]["reply"] = json!({
            "channel": { "$ref": format!("#/channels/{channel}") },
            "messages": references(channel, answers),
        });
    }
}

fn references(channel: &str, messages: &[String]) -> Vec<Value> {
    let reference = |message| json!({ "$ref": format!("#/channels/{channel}/messages/{message}") });
    messages.iter().map(reference).collect()
}
