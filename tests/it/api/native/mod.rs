//! Tests the native dialect, topic by topic: what each call does, and the exact answer of each refusal.

mod access_matrix;
mod changes;
mod closed;
mod confirm;
mod docs;
mod expired;
mod invitations;
mod keys;
mod marks;
mod members;
mod people;
mod profiles;
mod repeats;
mod rights;
mod rooms;
mod search;
mod teams;
mod unique;

use async_nats::{Client, ConnectOptions};
use protocol::rpc::RpcResult;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tests::{client::Rest, cluster::Cluster};

/// Status, code and detail of a refusal.
fn refusal(answer: &(reqwest::StatusCode, Value)) -> (u16, &str, &str) {
    let (status, problem) = answer;
    (status.as_u16(), problem["code"].as_str().unwrap_or(""), problem["detail"].as_str().unwrap_or(""))
}

const NOT_FOUND: (u16, &str, &str) = (404, "not_found", "Not found.");
const FORBIDDEN: (u16, &str, &str) = (403, "forbidden", "You do not have permission to perform this action.");
const CLOSED: (u16, &str, &str) = (409, "conflict", "This room is closed.");

/// A client that is an admin.
fn admin(cluster: &Cluster, n: usize) -> Rest {
    let token = tests::cluster::sign(&json!({ "user_id": "root", "is_admin": true }));
    Rest::new(&cluster.api[n].address(), &token)
}

/// A connection to the broker as its user `fanout`.
async fn as_fanout(cluster: &Cluster) -> Client {
    ConnectOptions::new()
        .custom_inbox_prefix("_INBOX_fanout")
        .user_and_password("fanout".to_owned(), tests::nats::PASSWORD.to_owned())
        .connect(cluster.nats.address().to_string())
        .await
        .expect("a login")
}

/// Asks api as a fan-out node does.
async fn ask<T: DeserializeOwned>(
    client: &Client,
    subject: &'static str,
    request: &impl Serialize,
) -> RpcResult<T> {
    let payload = serde_json::to_vec(request).expect("JSON");
    let answer = client.request(subject, payload.into()).await.expect("the node answers");
    serde_json::from_slice(&answer.payload).expect("a reply")
}
