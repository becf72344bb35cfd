//! Sockets: of each sort its actions, their answers, its pushes, and why it is closed.

use std::collections::BTreeSet;

use protocol::{
    error::ErrorCode,
    event::{EventName, live},
    socket::{ActionDescription, CloseCode, local, push},
};
use serde_json::{Map, Value, json};

use super::parts::{AsyncApiParts, schemas};
use crate::documents::schemas::SchemaSet;

/// The actions of the dialects' sockets.
#[derive(Clone, Copy)]
pub(crate) struct SocketActions {
    /// Those of native sockets which api decides.
    pub(crate) native: &'static [ActionDescription],
    /// Those of sockets of match rooms.
    pub(crate) matches: &'static [ActionDescription],
    /// Whether admins may not use an action of match rooms.
    pub(crate) is_kept_from_admins: fn(&str) -> bool,
}

/// Adds the sockets of all dialects.
pub(super) fn add(parts: &mut AsyncApiParts, sockets: &SocketActions) {
    parts.message("refused", "An action is refused: nothing of it is done.", &refused());
    let mut native = actions(parts, "native", sockets.native);
    native.extend(actions(parts, "native", local::LocalAction::DESCRIPTIONS));
    let pushes = pushes(parts);
    let matches = actions(parts, "match", sockets.matches);
    let for_admins =
        matches.iter().filter(|action| !(sockets.is_kept_from_admins)(action.0)).copied().collect::<Vec<_>>();

    let places = json!({
        "category": { "description": "The topic's category." },
        "id": { "description": "The topic's room." },
    });
    let topic = json!({ "address": "/chat/{category}/{id}/", "parameters": places });
    for (name, channel, about) in [
        ("native", json!({ "address": "/ws/" }), "Native sockets; `/ws` is the same."),
        ("topic", topic, "A topic's own address: a native socket that is in the topic from the start."),
    ] {
        socket(parts, name, "native", channel, about, &native);
        parts.operation(&format!("{name}.pushes"), "send", name, &pushes);
        for push in &pushes {
            parts.channels[name]["messages"][push] =
                json!({ "$ref": format!("#/components/messages/{push}") });
        }
    }
    let told = "What is done to a message is answered, to everyone in the room, by the same frame.";
    for (name, address, actions) in
        [("match", "/ws/chat/", &matches), ("match-admin", "/ws/admin-chat/", &for_admins)]
    {
        socket(parts, name, "match", json!({ "address": address }), told, actions);
        let told =
            ["create_message", "edit_message", "delete_messages"].map(|action| answer("match", action));
        parts.operation(&format!("{name}.pushes"), "send", name, &told);
    }
}

/// An action's name, and what it does.
type Named = (&'static str, &'static str);

fn answer(of: &str, action: &str) -> String {
    format!("{of}.{action}.answer")
}

/// The messages of actions, and their names.
fn actions(parts: &mut AsyncApiParts, of: &'static str, actions: &[ActionDescription]) -> Vec<Named> {
    let mut schemas = schemas(of);
    for action in actions {
        let named = json!({
            "type": "object",
            "required": ["action"],
            "properties": { "action": { "const": action.name }, "request_id": request_id() },
        });
        let frame = json!({ "allOf": [named, schemas.read_as(action.frame)] });
        parts.message(&format!("{of}.{}", action.name), action.about, &frame);
        let data = schemas.written_as(action.answer);
        let payload = envelope(
            &json!({ "type": "array", "maxItems": 0 }),
            &data,
            &json!({ "const": action.name }),
            &json!({ "const": action.status }),
        );
        parts.message(&answer(of, action.name), "The answer.", &payload);
    }
    schemas.finish(&mut parts.schemas);
    actions.iter().map(|action| (action.name, action.about)).collect()
}

/// A sort of socket, and an operation for each of its actions.
fn socket(
    parts: &mut AsyncApiParts,
    name: &str,
    of: &str,
    mut channel: Value,
    about: &str,
    actions: &[Named],
) {
    channel["description"] = about.into();
    channel["servers"] = json!([{ "$ref": "#/servers/sockets" }]);
    channel["x-closes"] = closes();
    let messages = actions.iter().flat_map(|(action, _)| [format!("{of}.{action}"), answer(of, action)]);
    let messages: Vec<String> = messages.chain(["refused".to_owned()]).collect();
    parts.channel(name, &messages, channel);
    for (action, about) in actions {
        let operation = format!("{name}.{action}");
        let answers = [answer(of, action), "refused".to_owned()];
        parts.request(&operation, name, &format!("{of}.{action}"), &answers);
        parts.operations[&operation]["summary"] = about.trim().into();
    }
}

/// The fields of a push that belongs to a channel.
const OF_CHANNEL: &[&str] = &["channel", "event", "data"];

/// The pushes of native sockets, and their names.
fn pushes(parts: &mut AsyncApiParts) -> Vec<String> {
    let mut schemas = schemas("event");
    let mut names = Vec::new();
    let mut push = |event: &str, about: &str, payload: &Value| {
        let name = format!("push.{event}");
        parts.message(&name, about, payload);
        names.push(name);
    };
    for event in EventName::ALL.iter().copied().filter(|event| event.is_pushed()) {
        push(event.as_str(), event.about(), &stored(&mut schemas, event));
    }
    for (event, about, form) in push::ALL {
        push(event, about, &pushed(event, OF_CHANNEL, &[], &schemas.written_as(*form)));
    }
    let about = "Of each shard its epoch, and up to where you have all there is.";
    let positions = schemas.written::<push::Positions>();
    push(live::POSITION, about, &pushed(live::POSITION, &["event", "data"], &[], &positions));
    schemas.finish(&mut parts.schemas);
    names
}

/// A stored event as it is pushed.
fn stored(schemas: &mut SchemaSet, event: EventName) -> Value {
    let mut data = schemas.written_as(event.form());
    if event.names_itself() {
        let id = json!({ "type": "integer" });
        let named = json!({ "type": "object", "required": ["id"], "properties": { "id": id } });
        data = json!({ "allOf": [named, data] });
    }
    if live::COPIED.contains(&event) {
        // The copies that contacts get have no place in their own order.
        return pushed(event.as_str(), OF_CHANNEL, &["id"], &data);
    }
    pushed(event.as_str(), &["channel", "event", "id", "data"], &[], &data)
}

/// A push with these fields, and perhaps those.
fn pushed(event: &str, required: &[&str], optional: &[&str], data: &Value) -> Value {
    let field = |name: &&str| match *name {
        "event" => json!({ "const": event }),
        "data" => data.clone(),
        "id" => json!({ "description": "Its place in the log.", "type": "integer" }),
        _ => json!({ "type": "string" }),
    };
    let fields = required.iter().chain(optional).map(|name| ((*name).to_owned(), field(name)));
    let fields: Map<String, Value> = fields.collect();
    json!({ "type": "object", "required": required, "properties": fields, "additionalProperties": false })
}

fn envelope(errors: &Value, data: &Value, action: &Value, status: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["errors", "data", "action", "response_status", "request_id"],
        "properties": {
            "errors": errors,
            "data": data,
            "action": action,
            "response_status": status,
            "request_id": request_id(),
        },
        "additionalProperties": false,
    })
}

/// What a client calls its request.
fn request_id() -> Value {
    json!({ "description": "Echoed as it came: any JSON scalar.", "type": ["string", "number", "boolean", "null"] })
}

fn refused() -> Value {
    let statuses: BTreeSet<u16> = ErrorCode::ALL.iter().map(|code| code.status()).collect();
    let errors = json!({ "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": 1 });
    let action = json!({ "type": ["string", "null"] });
    envelope(&errors, &json!({ "type": "null" }), &action, &json!({ "enum": statuses }))
}

fn closes() -> Value {
    let close = |close: &CloseCode| json!({ "code": close.code(), "reason": close.as_str(), "about": close.meaning().trim() });
    CloseCode::ALL.iter().map(close).collect()
}
