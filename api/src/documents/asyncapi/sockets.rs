//! Describes the sockets: for each kind its actions, answers, pushes and close codes.

use std::collections::BTreeSet;

use protocol::{
    error::ErrorCode,
    event::{EventName, live},
    socket::{ActionDescription, CloseCode, local, push},
};
use serde_json::{Map, Value, json};

use super::parts::{AsyncApiParts, new_schemas};
use crate::documents::schemas::SchemaSet;

/// The actions of the dialects' sockets.
#[derive(Clone, Copy)]
pub(crate) struct SocketActions {
    /// Actions of native sockets that api decides.
    pub(crate) native: &'static [ActionDescription],
    /// Actions of sockets of match rooms.
    pub(crate) match_rooms: &'static [ActionDescription],
    /// Returns whether admins may not use an action of match rooms.
    pub(crate) is_kept_from_admins: fn(&str) -> bool,
}

/// Adds the sockets of all dialects.
pub(super) fn add(parts: &mut AsyncApiParts, sockets: &SocketActions) {
    parts.add_message(
        "refused",
        "The answer to a refused action. No part of the action is executed.",
        &refused_answer_schema(),
    );
    let mut native = add_actions(parts, "native", sockets.native);
    native.extend(add_actions(parts, "native", local::LocalAction::DESCRIPTIONS));
    let pushes = add_pushes(parts);
    let matches = add_actions(parts, "match", sockets.match_rooms);
    let for_admins =
        matches.iter().filter(|action| !(sockets.is_kept_from_admins)(action.0)).copied().collect::<Vec<_>>();

    let parameters = json!({
        "category": { "description": "The topic's category." },
        "id": { "description": "The id of the topic's room." },
    });
    let topic = json!({ "address": "/chat/{category}/{id}/", "parameters": parameters });
    for (name, channel, about) in [
        ("native", json!({ "address": "/ws/" }), "Native sockets. `/ws` is the same address."),
        ("topic", topic, "Native sockets that join a topic when they connect."),
    ] {
        add_socket(parts, name, "native", channel, about, &native);
        parts.add_operation(&format!("{name}.pushes"), "send", name, &pushes);
        for push in &pushes {
            parts.channels[name]["messages"][push] =
                json!({ "$ref": format!("#/components/messages/{push}") });
        }
    }
    let about = "New, edited and deleted messages are pushed to everyone in the room, as the frame that answers \
                 the sender.";
    for (name, address, actions) in
        [("match", "/ws/chat/", &matches), ("match-admin", "/ws/admin-chat/", &for_admins)]
    {
        add_socket(parts, name, "match", json!({ "address": address }), about, actions);
        let pushes =
            ["create_message", "edit_message", "delete_messages"].map(|action| answer_name("match", action));
        parts.add_operation(&format!("{name}.pushes"), "send", name, &pushes);
    }
}

/// An action's name and summary.
type ActionSummary = (&'static str, &'static str);

fn answer_name(of: &str, action: &str) -> String {
    format!("{of}.{action}.answer")
}

/// Adds the messages of actions; returns names and summaries of the actions.
fn add_actions(
    parts: &mut AsyncApiParts,
    of: &'static str,
    actions: &[ActionDescription],
) -> Vec<ActionSummary> {
    let mut schemas = new_schemas(of);
    for action in actions {
        let named = json!({
            "type": "object",
            "required": ["action"],
            "properties": { "action": { "const": action.name }, "request_id": request_id_schema() },
        });
        let frame = json!({ "allOf": [named, schemas.request_schema_of(action.frame)] });
        parts.add_message(&format!("{of}.{}", action.name), action.about, &frame);
        let data = schemas.response_schema_of(action.answer);
        let payload = envelope_schema(
            &json!({ "type": "array", "maxItems": 0 }),
            &data,
            &json!({ "const": action.name }),
            &json!({ "const": action.status }),
        );
        parts.add_message(
            &answer_name(of, action.name),
            &format!("The answer to `{}`.", action.name),
            &payload,
        );
    }
    schemas.write_definitions(&mut parts.schemas);
    actions.iter().map(|action| (action.name, action.about)).collect()
}

/// Adds a kind of socket, with an operation for each of its actions.
fn add_socket(
    parts: &mut AsyncApiParts,
    name: &str,
    of: &str,
    mut channel: Value,
    about: &str,
    actions: &[ActionSummary],
) {
    channel["description"] = about.into();
    channel["servers"] = json!([{ "$ref": "#/servers/sockets" }]);
    channel["x-closes"] = close_codes();
    let messages = actions.iter().flat_map(|(action, _)| [format!("{of}.{action}"), answer_name(of, action)]);
    let messages: Vec<String> = messages.chain(["refused".to_owned()]).collect();
    parts.add_channel(name, &messages, channel);
    for (action, about) in actions {
        let operation = format!("{name}.{action}");
        let answers = [answer_name(of, action), "refused".to_owned()];
        parts.add_request(&operation, name, &format!("{of}.{action}"), &answers);
        parts.operations[&operation]["summary"] = about.trim().into();
    }
}

/// The fields of a push that belongs to a channel.
const CHANNEL_PUSH_FIELDS: &[&str] = &["channel", "event", "data"];

/// Adds the pushes of native sockets; returns their names.
fn add_pushes(parts: &mut AsyncApiParts) -> Vec<String> {
    let mut schemas = new_schemas("event");
    let mut names = Vec::new();
    let mut push = |event: &str, about: &str, payload: &Value| {
        let name = format!("push.{event}");
        parts.add_message(&name, about, payload);
        names.push(name);
    };
    for event in EventName::ALL.iter().copied().filter(|event| event.is_pushed()) {
        push(event.as_str(), event.about(), &stored_push_schema(&mut schemas, event));
    }
    for (event, about, form) in push::ALL {
        push(event, about, &push_schema(event, CHANNEL_PUSH_FIELDS, &[], &schemas.response_schema_of(*form)));
    }
    let about = "For each shard its epoch, and the id of the event up to which you have received everything.";
    let positions = schemas.response_schema::<push::Positions>();
    push(live::POSITION, about, &push_schema(live::POSITION, &["event", "data"], &[], &positions));
    schemas.write_definitions(&mut parts.schemas);
    names
}

/// Returns the schema of a stored event as it is pushed.
fn stored_push_schema(schemas: &mut SchemaSet, event: EventName) -> Value {
    let mut data = schemas.response_schema_of(event.payload_schema());
    if event.adds_id_to_push() {
        let id = json!({ "type": "integer" });
        let named = json!({ "type": "object", "required": ["id"], "properties": { "id": id } });
        data = json!({ "allOf": [named, data] });
    }
    if live::COPIED.contains(&event) {
        // A copy that a contact gets has no id in the contact's own channel.
        return push_schema(event.as_str(), CHANNEL_PUSH_FIELDS, &["id"], &data);
    }
    push_schema(event.as_str(), &["channel", "event", "id", "data"], &[], &data)
}

/// Returns the schema of a push with required and optional fields.
fn push_schema(event: &str, required: &[&str], optional: &[&str], data: &Value) -> Value {
    let field = |name: &&str| match *name {
        "event" => json!({ "const": event }),
        "data" => data.clone(),
        "id" => {
            json!({ "description": "The place of the event in the log of its shard.", "type": "integer" })
        }
        _ => json!({ "type": "string" }),
    };
    let fields = required.iter().chain(optional).map(|name| ((*name).to_owned(), field(name)));
    let fields: Map<String, Value> = fields.collect();
    json!({ "type": "object", "required": required, "properties": fields, "additionalProperties": false })
}

fn envelope_schema(errors: &Value, data: &Value, action: &Value, status: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["errors", "data", "action", "response_status", "request_id"],
        "properties": {
            "errors": errors,
            "data": data,
            "action": action,
            "response_status": status,
            "request_id": request_id_schema(),
        },
        "additionalProperties": false,
    })
}

/// Returns the schema of a client's request id.
fn request_id_schema() -> Value {
    let about = "Any JSON scalar. The answer repeats it unchanged.";
    json!({ "description": about, "type": ["string", "number", "boolean", "null"] })
}

fn refused_answer_schema() -> Value {
    let statuses: BTreeSet<u16> = ErrorCode::ALL.iter().map(|code| code.status()).collect();
    let errors = json!({ "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": 1 });
    let action = json!({ "type": ["string", "null"] });
    envelope_schema(&errors, &json!({ "type": "null" }), &action, &json!({ "enum": statuses }))
}

fn close_codes() -> Value {
    let close = |close: &CloseCode| json!({ "code": close.code(), "reason": close.as_str(), "about": close.meaning().trim() });
    CloseCode::ALL.iter().map(close).collect()
}
