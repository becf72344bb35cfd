//! Tests the direct dialect: two people who talk, with its clients' requests and answers.

mod contacts;
mod docs;
mod refusals;
mod rooms;
mod talk;
mod unique;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::{
    client::Rest,
    cluster::{Cluster, sign},
};

/// Token claims of a user, with the profile that the document's example has.
fn claims(user: u64) -> Value {
    json!({
        "user_id": user, "iat": 1_700_000_000, "username": format!("man{user}"),
        "email": format!("man{user}@gmail.com"), "gender": "male", "language": "en", "account": "0",
        "main_photo": format!("{user}.jpg"),
    })
}

fn person(cluster: &Cluster, node: usize, user: u64) -> Rest {
    Rest::new(&cluster.api[node].address(), &sign(&claims(user)))
}

fn admin(cluster: &Cluster) -> Rest {
    Rest::new(&cluster.api[0].address(), &sign(&json!({ "user_id": 1, "is_admin": true })))
}

/// Sends a `GET` that must succeed; returns its body.
async fn get(rest: &Rest, path: &str) -> Value {
    let (status, answer) = rest.get(path).await;
    assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    answer
}

/// Sends a `POST` that must succeed; returns its body.
async fn post(rest: &Rest, path: &str, body: Value) -> Value {
    let (status, answer) = rest.post(path, body).await;
    assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    answer
}

/// Adds the room of two people; returns its id.
async fn add(rest: &Rest, owner: u64, abonent: u64) -> u64 {
    let room = post(rest, "/room/add", json!({ "owner": owner, "abonent": abonent })).await;
    tests::native::id(&room)
}

/// Sends a message; returns its id and the room of the answer.
async fn send(rest: &Rest, room: u64, text: &str) -> (u64, Value) {
    let room = post(rest, "/room/list", json!({ "room_id": room, "message": text })).await;
    let messages = room["messages"].as_object().expect("messages by their ids");
    let last = messages.values().max_by_key(|message| message["id"].as_u64()).expect("one");
    assert_eq!(last["message"], text, "{room}");
    (tests::native::id(last), room)
}

/// The keys of an object, sorted.
fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

const ROOM: [&str; 7] =
    ["abonent_id", "activity", "id", "is_active", "is_current", "is_low_account", "messages"];
const ROOMS: [&str; 6] = ["contact_users", "contacts_ids", "current_room", "online_ids", "room_ids", "rooms"];
const MESSAGE: [&str; 5] = ["author_id", "created", "id", "is_readed", "message"];
