//! Sends REST requests to one node.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::TIMEOUT;

/// A REST client of one node, with one person's token or without a token.
#[derive(Clone, Debug)]
pub struct Rest {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Rest {
    /// A client that sends this token.
    ///
    /// # Panics
    /// When reqwest can't make a client.
    #[must_use]
    pub fn new(address: &str, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..Self::without_token(address) }
    }

    /// A client without a token.
    ///
    /// # Panics
    /// When reqwest can't make a client.
    #[must_use]
    pub fn without_token(address: &str) -> Self {
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().expect("a client");
        Self { http, base: format!("http://{address}"), token: None }
    }

    /// A request builder with the client's token.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request with a JSON body, or without one where `body` is null. Returns the status and the answer's JSON;
    /// null where its body is not JSON.
    ///
    /// # Errors
    /// When the node does not answer within [`TIMEOUT`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> reqwest::Result<(StatusCode, Value)> {
        let mut request = self.request(method, path);
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let bytes = answer.bytes().await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// Sends a `GET`.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::GET, path, &Value::Null).await.expect("the node answers")
    }

    /// Sends a `POST` with a JSON body, or without one where `body` is null.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::POST, path, &body).await.expect("the node answers")
    }

    /// Sends a `PUT` with a JSON body, or without one where `body` is null.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn put(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::PUT, path, &body).await.expect("the node answers")
    }

    /// Sends a `PATCH` with a JSON body.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn patch(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::PATCH, path, &body).await.expect("the node answers")
    }

    /// Sends a `DELETE`.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn delete(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::DELETE, path, &Value::Null).await.expect("the node answers")
    }
}
