//! Connects as a client: over REST, and by a socket that checks the order of its pushes.

use std::collections::HashMap;

use futures_util::{SinkExt as _, StreamExt as _, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use crate::PATIENCE;
use crate::paths;

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
        let http = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
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
    /// When the node does not answer within [`PATIENCE`].
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

    /// Sends a `POST` with a JSON body.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::POST, path, &body).await.expect("the node answers")
    }

    /// Creates a public room and returns its id.
    ///
    /// # Panics
    /// When the answer is not 201.
    pub async fn make_room(&self, name: &str) -> u64 {
        let (status, room) = self.post(paths::ROOMS, json!({ "name": name })).await;
        assert_eq!(status, StatusCode::CREATED, "{room}");
        room["id"].as_u64().expect("an id")
    }

    /// Creates public rooms, 32 at a time, and returns their ids.
    ///
    /// # Panics
    /// When an answer is not 201.
    pub async fn make_rooms(&self, count: usize) -> Vec<u64> {
        let made = stream::iter(0..count).map(async |n| self.make_room(&n.to_string()).await);
        made.buffer_unordered(32).collect().await
    }

    /// Sends a message and returns its id.
    ///
    /// # Panics
    /// When the answer is not 201.
    pub async fn say(&self, room: u64, text: &str) -> u64 {
        let (status, message) = self.post(&paths::messages(room), json!({ "message": text })).await;
        assert_eq!(status, StatusCode::CREATED, "{message}");
        message["id"].as_u64().expect("an id")
    }
}

/// An open socket. It fails the test where the event ids of a channel do not increase.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    requests: u64,
    pushes: Vec<Value>,
    last: HashMap<String, u64>,
}

impl Socket {
    /// Connects to `/ws/` with a token.
    ///
    /// # Errors
    /// When the node refuses.
    ///
    /// # Panics
    /// When the token can't be a header's value.
    pub async fn open(address: &str, token: &str) -> Result<Self, Error> {
        Self::open_at(address, "/ws/", token).await
    }

    /// Connects to another path of the node.
    ///
    /// # Errors
    /// When the node refuses.
    ///
    /// # Panics
    /// When the token can't be a header's value.
    pub async fn open_at(address: &str, path: &str, token: &str) -> Result<Self, Error> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        let header = format!("Bearer {token}").parse().expect("a token is a header");
        request.headers_mut().insert("authorization", header);
        let (stream, _) = connect_async(request).await?;
        Ok(Self { stream, requests: 0, pushes: Vec::new(), last: HashMap::new() })
    }

    /// Sends a text frame.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn send_text(&mut self, text: &str) -> Result<(), Error> {
        self.stream.send(Message::text(text)).await
    }

    /// Sends a binary frame.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn send_binary(&mut self, bytes: &'static [u8]) -> Result<(), Error> {
        self.stream.send(Message::binary(bytes)).await
    }

    /// Receives the next text frame as JSON, and checks the order of pushes.
    ///
    /// # Errors
    /// When the socket is closed, or nothing arrives within [`PATIENCE`].
    ///
    /// # Panics
    /// When a channel's events are out of order.
    pub async fn next(&mut self) -> Result<Value, Error> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.stream.next()).await;
            let message = message.map_err(|_| Error::Io(std::io::ErrorKind::TimedOut.into()))?;
            match message.ok_or(Error::ConnectionClosed)?? {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
                    if let (Some(channel), Some(id)) = (frame["channel"].as_str(), frame["id"].as_u64()) {
                        let last = self.last.insert(channel.to_owned(), id).unwrap_or(0);
                        assert!(id > last, "{channel}: {id} after {last}");
                    }
                    return Ok(frame);
                }
                Message::Close(frame) => {
                    let code = frame.map_or(1005, |frame| frame.code.into());
                    return Err(Error::Io(std::io::Error::other(format!("closed {code}"))));
                }
                _ => {}
            }
        }
    }

    /// Sends an action and returns its answer; keeps the pushes that arrive before it.
    ///
    /// # Errors
    /// When the socket is closed.
    ///
    /// # Panics
    /// When `body` is not an object.
    pub async fn act(&mut self, action: &str, body: Value) -> Result<Value, Error> {
        self.requests += 1;
        let id = self.requests;
        let mut frame = body;
        frame["action"] = action.into();
        frame["request_id"] = id.into();
        self.send_text(&frame.to_string()).await?;
        loop {
            let frame = self.next().await?;
            if frame["request_id"] == id {
                return Ok(frame);
            }
            self.pushes.push(frame);
        }
    }

    /// Sends an action that must succeed, and returns the answer's `data`.
    ///
    /// # Panics
    /// When the status is not 2xx, or the socket is closed.
    pub async fn must(&mut self, action: &str, body: Value) -> Value {
        let answer = self.act(action, body).await.expect("the socket is open");
        assert!(answer["response_status"].as_u64().is_some_and(|status| status < 300), "{answer}");
        answer["data"].clone()
    }

    /// Sends a `ping` and returns all pushes that arrived before its answer.
    ///
    /// # Panics
    /// When the socket is closed.
    pub async fn so_far(&mut self) -> Vec<Value> {
        self.must("ping", json!({})).await;
        self.kept()
    }

    /// Takes the pushes that were kept while waiting for answers.
    pub fn kept(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.pushes)
    }

    /// The next push: a kept one, else the next frame.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn push(&mut self) -> Result<Value, Error> {
        if self.pushes.is_empty() { self.next().await } else { Ok(self.pushes.remove(0)) }
    }

    /// The next push with this event name; drops all others before it.
    ///
    /// # Errors
    /// When the socket is closed, or none arrives within [`PATIENCE`].
    pub async fn event(&mut self, name: &str) -> Result<Value, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let push = timeout_at(deadline, self.push()).await;
            let push = push.map_err(|_| Error::Io(std::io::ErrorKind::TimedOut.into()))??;
            if push["event"] == name {
                return Ok(push);
            }
        }
    }
}
