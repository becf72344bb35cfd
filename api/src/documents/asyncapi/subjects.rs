//! Subjects of the broker: what the services tell and ask each other.

use log::{AppliedPosition, LogEnd, SyncHint};
use protocol::{
    event::EventName,
    json::SchemaFn,
    rpc::{
        ActionReply, ActionRequest, ConfirmReply, ConfirmRequest, HelloRequest, ParticipantsReply,
        ParticipantsRequest, PresenceRequest, RpcResult, SignalRequest,
    },
    socket::push,
    subject::{form, rpc},
};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::parts::{AsyncApiParts, schemas};

/// Adds them.
pub(super) fn add(parts: &mut AsyncApiParts) {
    events(parts);
    told::<AppliedPosition>(
        parts,
        form::APPLIED,
        "Up to where a shard is in Postgres: by the persister, each second.",
    );
    told::<SyncHint>(parts, form::SYNC, "A live copy may have been lost: by api.");
    told::<LogEnd>(parts, form::SEEN, "How far a shard's log has been seen to reach.");
    let empty = json!({ "const": "" });
    for (address, about) in [
        (form::ALIVE, "A process that holds sockets lives: by itself."),
        (form::DEAD, "A process is dead: by api."),
        (form::ECHO, "An api node hears itself."),
    ] {
        tell(parts, address, about, &empty);
    }
    asked::<ActionRequest, ActionReply>(parts, rpc::ACTION, "An action of a socket, decided by api.");
    asked::<HelloRequest, ()>(parts, rpc::HELLO, "A person connects: their token's profile is stored.");
    asked::<PresenceRequest, Vec<RpcResult<()>>>(
        parts,
        rpc::PRESENCE,
        "People are first in a room or online on a node, or have left.",
    );
    asked::<ParticipantsRequest, ParticipantsReply>(parts, rpc::PARTICIPANTS, "Who is in a room.");
    asked::<ConfirmRequest, ConfirmReply>(parts, rpc::CONFIRM, "Whether people may still be in a room.");
    asked::<SignalRequest, ()>(parts, rpc::SIGNAL, "Whether a person may send signals to another.");
}

/// What the log holds, and its live copies.
fn events(parts: &mut AsyncApiParts) {
    let mut schemas = schemas("event");
    let mut names = Vec::new();
    let mut message = |parts: &mut AsyncApiParts, event: &str, about: &str, form: SchemaFn| {
        let name = format!("event.{event}");
        parts.message(&name, about, &schemas.written_as(form));
        names.push(name);
    };
    for event in EventName::ALL {
        message(parts, event.as_str(), event.about(), event.form());
    }
    let stored = EventName::ALL.len();
    for (event, about, form) in push::ALL.iter().filter(|(event, ..)| push::is_published(event)) {
        message(parts, event, about, *form);
    }
    schemas.finish(&mut parts.schemas);
    let stored = names[..stored].to_vec();
    channel(
        parts,
        form::CHAT,
        "What is stored: appended by api alone, once; read by the persister.",
        &stored,
    );
    channel(parts, form::LIVE, "What is pushed: copies of what is stored, and what never is.", &names);
}

fn name(address: &str) -> String {
    let tokens = address.split('.').filter(|token| !token.starts_with('{'));
    tokens.collect::<Vec<_>>().join(".")
}

fn channel(parts: &mut AsyncApiParts, address: &str, about: &str, messages: &[String]) {
    let parameters: Map<String, Value> = address
        .split('.')
        .filter_map(|token| token.strip_prefix('{')?.strip_suffix('}'))
        .map(|parameter| (parameter.to_owned(), json!({})))
        .collect();
    let name = name(address);
    let servers = json!([{ "$ref": "#/servers/log" }]);
    let more =
        json!({ "address": address, "description": about, "servers": servers, "parameters": parameters });
    parts.channel(&name, messages, more);
    parts.operation(&name, "send", &name, messages);
}

/// What is told to whoever listens.
fn tell(parts: &mut AsyncApiParts, address: &str, about: &str, payload: &Value) {
    let message = name(address);
    parts.message(&message, about, payload);
    channel(parts, address, about, &[message]);
}

fn told<T: JsonSchema>(parts: &mut AsyncApiParts, address: &str, about: &str) {
    let mut schemas = schemas("log");
    let payload = schemas.written::<T>();
    schemas.finish(&mut parts.schemas);
    tell(parts, address, about, &payload);
}

/// What is asked, and answered.
fn asked<T: JsonSchema, R: JsonSchema>(parts: &mut AsyncApiParts, address: &str, about: &str) {
    let mut schemas = schemas("rpc");
    let (question, answer) = (name(address), format!("{}.reply", name(address)));
    let payload = schemas.written::<T>();
    parts.message(&question, about, &payload);
    let payload = schemas.written_as(SchemaGenerator::subschema_for::<RpcResult<R>>);
    parts.message(&answer, "The answer.", &payload);
    schemas.finish(&mut parts.schemas);
    channel(parts, address, about, &[question.clone(), answer.clone()]);
    parts.request(&question, &question.clone(), &question, &[answer]);
}
