//! Tests the match dialect: two brands, and admins who look on.

mod admin;
mod chat;
mod deleted;
mod docs;
mod list;
mod original;
mod refusals;

use reqwest::Method;
use serde_json::{Value, json};
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, sign},
};

/// A match socket.
struct Match(Socket);

impl Match {
    async fn open(cluster: &Cluster, node: usize, claims: &Value) -> Self {
        Self::open_at(cluster, node, "/ws/chat/", claims).await
    }

    async fn open_at(cluster: &Cluster, node: usize, path: &str, claims: &Value) -> Self {
        let address = cluster.fanout[node].address();
        Self(Socket::open_at(&address, path, &sign(claims)).await.expect("the node takes sockets"))
    }

    /// Sends a frame; returns the next frame received.
    async fn ask(&mut self, frame: Value) -> Value {
        self.0.send_text(&frame.to_string()).await.expect("the socket is open");
        self.next().await
    }

    async fn next(&mut self) -> Value {
        self.0.next().await.expect("the socket is open")
    }
}

/// Claims of the first brand, which has a business plan.
fn one() -> Value {
    json!({ "user_id": 1, "iat": 1_700_000_000, "username": "One", "business": true })
}

/// Claims of the second brand.
fn two() -> Value {
    json!({ "user_id": 2, "iat": 1_700_000_000, "username": "Two", "business": false })
}

fn root(cluster: &Cluster) -> Rest {
    Rest::new(&cluster.api[0].address(), &sign(&json!({ "user_id": 9, "is_admin": true })))
}

/// Creates a match room as the host application does; returns its id.
async fn matched(cluster: &Cluster, users: [&str; 2]) -> u64 {
    let body = json!({ "kind": "match", "users": users });
    let (status, room) =
        root(cluster).send(Method::POST, paths::ROOMS, &body).await.expect("the node answers");
    assert!(status.is_success(), "{room}");
    tests::native::id(&room)
}

/// The keys of an object, sorted.
fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

const PERSON: [&str; 10] = [
    "account",
    "business",
    "email",
    "gender",
    "id",
    "is_camera",
    "is_online",
    "language",
    "main_photo",
    "username",
];
