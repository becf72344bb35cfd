//! Tests the support dialect: visitors without tokens, agents, and their refusals.

mod docs;
mod messages;
mod native;
mod refusals;
mod rights;
mod rooms;
mod visitors;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size, sign},
    postgres::Database,
};

const CONTROL: &str = "/api/v2/room-control/";
const SERVICE: &str = "/api/v2/room-service/";
const LIST: &str = "/api/v2/room-list/";

/// Starts a cluster of one node of each kind with additional variables.
async fn start(more: &[(&'static str, &str)]) -> Cluster {
    Cluster::start_with(Size::default(), Database::shared(), more).await
}

/// A client without a token at the `n`th api node.
fn visitor(cluster: &Cluster, n: usize) -> Rest {
    Rest::without_token(&cluster.api[n].address())
}

/// Token claims of an agent of an organisation.
fn agent_of(org_id: &str) -> Value {
    json!({ "user_id": "agent", "org_id": org_id })
}

/// A client that is an agent of an organisation.
fn agent(cluster: &Cluster, org_id: &str) -> Rest {
    Rest::new(&cluster.api[0].address(), &sign(&agent_of(org_id)))
}

/// The document's visit body for a visitor.
fn visit_of(user_id: &str) -> Value {
    json!({
        "user_id": user_id,
        "org_id": "DOWELL12345",
        "portfolio_name": "umair",
        "product_name": "WIFIQRCODE",
    })
}

/// Finds or creates the room of a visit; returns it.
async fn visit(rest: &Rest, body: Value) -> Value {
    let (status, answer) = rest.post(CONTROL, body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["inserted_id"], answer["response"]["_id"]);
    answer["response"].clone()
}

/// The key of a room.
fn key(room: &Value) -> &str {
    room["_id"].as_str().expect("a key")
}

/// The document's message body with a text.
fn message(room: &str, text: &str) -> Value {
    json!({
        "type": "create_message",
        "room_id": room,
        "message_data": text,
        "side": true,
        "auther": "client",
        "message_type": "text",
    })
}

async fn send(rest: &Rest, room: &str, text: &str) {
    let (status, answer) = rest.post(SERVICE, message(room, text)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

/// Answer to a read of type `kind`.
async fn get(rest: &Rest, kind: &str, room: &str) -> (StatusCode, Value) {
    rest.get(&format!("{SERVICE}?type={kind}&room_id={room}")).await
}

/// Reads a room by its key.
async fn shown(rest: &Rest, room: &str) -> Value {
    let (status, answer) = get(rest, "get_room_by_id", room).await;
    assert_eq!((status, answer["response"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)), "{answer}");
    answer["response"][0].clone()
}

/// Reads the messages of a room by its key.
async fn messages(rest: &Rest, room: &str) -> Vec<Value> {
    let (status, answer) = get(rest, "get_messages", room).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer["response"].as_array().expect("a list").clone()
}

/// Closes a room by a GET with a body, as the document does.
async fn close(rest: &Rest, room: &str) -> (StatusCode, Value) {
    let body = json!({ "type": "delete_room", "room_id": room, "is_active": false });
    rest.send(Method::GET, SERVICE, &body).await.expect("the node answers")
}

/// A refusal of this dialect.
fn refusal(status: u16, message: &str) -> (StatusCode, Value) {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, json!({ "success": false, "message": message }))
}

fn not_found() -> (StatusCode, Value) {
    refusal(404, "Not found.")
}

fn forbidden() -> (StatusCode, Value) {
    refusal(403, "You do not have permission to perform this action.")
}

/// Native id of the only room that an agent sees.
async fn native_room(agent: &Rest) -> u64 {
    let (_, rooms) = agent.get(paths::ROOMS).await;
    let [room] = rooms["results"].as_array().expect("a list").as_slice() else { panic!("{rooms}") };
    assert_eq!(room["kind"], "support");
    tests::native::id(room)
}
