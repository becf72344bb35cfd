//! Describes the broker's subjects: notices and requests between the services.

use log::{AppliedPosition, LogEnd, SyncHint};
use protocol::{
    event::EventName,
    json::SchemaFn,
    rpc::{
        ActionReply, ActionRequest, ConfirmChannelsRequest, ConfirmReply, ConfirmRequest, HelloRequest,
        ParticipantsReply, ParticipantsRequest, PresenceRequest, RpcResult, SignalRequest,
    },
    socket::push,
    subject::{form, rpc},
};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::parts::{AsyncApiParts, new_schemas};

/// Adds all subjects.
pub(super) fn add(parts: &mut AsyncApiParts) {
    add_events(parts);
    add_notice_of::<AppliedPosition>(
        parts,
        form::APPLIED,
        "The persister publishes the position of a shard in Postgres, after each batch and once a second.",
    );
    add_notice_of::<SyncHint>(
        parts,
        form::SYNC,
        "api asks fan-out nodes to read a shard's log again, because a live copy may have been lost.",
    );
    add_notice_of::<LogEnd>(
        parts,
        form::SEEN,
        "api and fan-out nodes report the last event of a shard's log that they have seen.",
    );
    let empty = json!({ "const": "" });
    for (address, about) in [
        (form::ALIVE, "A fan-out process reports that it is alive."),
        (form::DEAD, "An api node declares a fan-out process dead."),
        (form::ECHO, "An api node publishes its own heartbeat, to check that it receives those of others."),
    ] {
        add_notice(parts, address, about, &empty);
    }
    add_request::<ActionRequest, ActionReply>(
        parts,
        rpc::ACTION,
        "A fan-out node forwards a socket's action to api.",
    );
    add_request::<HelloRequest, ()>(
        parts,
        rpc::HELLO,
        "A person has connected. api stores the profile in their token.",
    );
    add_request::<PresenceRequest, Vec<RpcResult<()>>>(
        parts,
        rpc::PRESENCE,
        "People have joined or left rooms on a fan-out node, or come online or gone offline there.",
    );
    add_request::<ParticipantsRequest, ParticipantsReply>(
        parts,
        rpc::PARTICIPANTS,
        "Asks for the people in a room.",
    );
    add_request::<ConfirmRequest, ConfirmReply>(
        parts,
        rpc::CONFIRM,
        "Asks whether people may still be in a room, or follow a team.",
    );
    add_request::<ConfirmChannelsRequest, Vec<RpcResult<ConfirmReply>>>(
        parts,
        rpc::CONFIRM_CHANNELS,
        "Asks whether people may still be in several rooms, or follow several teams.",
    );
    add_request::<SignalRequest, ()>(
        parts,
        rpc::SIGNAL,
        "Asks whether a person may send signals to another.",
    );
}

/// Adds the stored events and their live copies.
fn add_events(parts: &mut AsyncApiParts) {
    let mut schemas = new_schemas("event");
    let mut names = Vec::new();
    let mut message = |parts: &mut AsyncApiParts, event: &str, about: &str, form: SchemaFn| {
        let name = format!("event.{event}");
        parts.add_message(&name, about, &schemas.response_schema_of(form));
        names.push(name);
    };
    for event in EventName::ALL {
        message(parts, event.as_str(), event.about(), event.payload_schema());
    }
    let stored = EventName::ALL.len();
    for (event, about, form) in push::ALL.iter().filter(|(event, ..)| push::is_published(event)) {
        message(parts, event, about, *form);
    }
    schemas.write_definitions(&mut parts.schemas);
    let stored = names[..stored].to_vec();
    add_channel(
        parts,
        form::CHAT,
        "Stored events. Only api appends them, each once; the persister reads them.",
        &stored,
    );
    add_channel(
        parts,
        form::LIVE,
        "Live events: copies of stored events, and events that are never stored.",
        &names,
    );
}

fn channel_name(address: &str) -> String {
    let tokens = address.split('.').filter(|token| !token.starts_with('{'));
    tokens.collect::<Vec<_>>().join(".")
}

fn add_channel(parts: &mut AsyncApiParts, address: &str, about: &str, messages: &[String]) {
    let parameters: Map<String, Value> = address
        .split('.')
        .filter_map(|token| token.strip_prefix('{')?.strip_suffix('}'))
        .map(|parameter| (parameter.to_owned(), json!({})))
        .collect();
    let name = channel_name(address);
    let servers = json!([{ "$ref": "#/servers/log" }]);
    let more =
        json!({ "address": address, "description": about, "servers": servers, "parameters": parameters });
    parts.add_channel(&name, messages, more);
    parts.add_operation(&name, "send", &name, messages);
}

/// Adds a subject whose messages are not answered.
fn add_notice(parts: &mut AsyncApiParts, address: &str, about: &str, payload: &Value) {
    let message = channel_name(address);
    parts.add_message(&message, about, payload);
    add_channel(parts, address, about, &[message]);
}

fn add_notice_of<T: JsonSchema>(parts: &mut AsyncApiParts, address: &str, about: &str) {
    let mut schemas = new_schemas("log");
    let payload = schemas.response_schema::<T>();
    schemas.write_definitions(&mut parts.schemas);
    add_notice(parts, address, about, &payload);
}

/// Adds a subject for requests and their replies.
fn add_request<T: JsonSchema, R: JsonSchema>(parts: &mut AsyncApiParts, address: &str, about: &str) {
    let mut schemas = new_schemas("rpc");
    let (question, answer) = (channel_name(address), format!("{}.reply", channel_name(address)));
    let payload = schemas.response_schema::<T>();
    parts.add_message(&question, about, &payload);
    let payload = schemas.response_schema_of(SchemaGenerator::subschema_for::<RpcResult<R>>);
    parts.add_message(&answer, &format!("The answer to `{question}`."), &payload);
    schemas.write_definitions(&mut parts.schemas);
    add_channel(parts, address, about, &[question.clone(), answer.clone()]);
    parts.add_request(&question, &question.clone(), &question, &[answer]);
}
