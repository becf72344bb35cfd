//! Clients: REST, and a socket that checks the order of what it is pushed.

use std::collections::HashMap;

use futures_util::{SinkExt as _, StreamExt as _};
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

/// A REST client of one person on one node, or of nobody in particular.
#[derive(Clone, Debug)]
pub struct Rest {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Rest {
    /// A client with that token.
    ///
    /// # Panics
    /// When the machine can't make one.
    #[must_use]
    pub fn new(address: &str, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..Self::without_token(address) }
    }

    /// A client without a token.
    ///
    /// # Panics
    /// When the machine can't make one.
    #[must_use]
    pub fn without_token(address: &str) -> Self {
        let http = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
        Self { http, base: format!("http://{address}"), token: None }
    }

    /// A request with this person's token, to be finished.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request; null is no body. Answers null where the answer has none.
    ///
    /// # Errors
    /// When the node does not answer.
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

    /// `GET`.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::GET, path, &Value::Null).await.expect("the node answers")
    }

    /// `POST`.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::POST, path, &body).await.expect("the node answers")
    }

    /// Makes a public room and answers its id.
    ///
    /// # Panics
    /// When it can't be made.
    pub async fn make_room(&self, name: &str) -> u64 {
        let (status, room) = self.post("/api/v1/rooms", json!({ "name": name })).await;
        assert_eq!(status, StatusCode::CREATED, "{room}");
        room["id"].as_u64().expect("an id")
    }

    /// Sends a message and answers its id.
    ///
    /// # Panics
    /// When it can't be sent.
    pub async fn say(&self, room: u64, text: &str) -> u64 {
        let (status, message) =
            self.post(&format!("/api/v1/rooms/{room}/messages"), json!({ "message": text })).await;
        assert_eq!(status, StatusCode::CREATED, "{message}");
        message["id"].as_u64().expect("an id")
    }
}

/// An open socket. It fails the test where a channel's events come twice or out of order.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    requests: u64,
    pushes: Vec<Value>,
    last: HashMap<String, u64>,
}

impl Socket {
    /// Connects with a token.
    ///
    /// # Errors
    /// When the node refuses.
    ///
    /// # Panics
    /// When the token is no header.
    pub async fn open(address: &str, token: &str) -> Result<Self, Error> {
        Self::open_at(address, "/ws/", token).await
    }

    /// Connects to another of the node's addresses.
    ///
    /// # Errors
    /// When the node refuses.
    ///
    /// # Panics
    /// When the token is no header.
    pub async fn open_at(address: &str, path: &str, token: &str) -> Result<Self, Error> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        let header = format!("Bearer {token}").parse().expect("a token is a header");
        request.headers_mut().insert("authorization", header);
        let (stream, _) = connect_async(request).await?;
        Ok(Self { stream, requests: 0, pushes: Vec::new(), last: HashMap::new() })
    }

    /// Sends text as it is.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn send_text(&mut self, text: &str) -> Result<(), Error> {
        self.stream.send(Message::text(text)).await
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn send_binary(&mut self, bytes: &'static [u8]) -> Result<(), Error> {
        self.stream.send(Message::binary(bytes)).await
    }

    /// The next frame of JSON; pushes are checked.
    ///
    /// # Errors
    /// When the socket is closed, or silent for too long.
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

    /// Sends an action and answers its answer; pushes that come before are kept.
    ///
    /// # Errors
    /// When the socket is closed.
    ///
    /// # Panics
    /// When `body` is no object.
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

    /// The same, where it must succeed: answers the data.
    ///
    /// # Panics
    /// When it does not.
    pub async fn must(&mut self, action: &str, body: Value) -> Value {
        let answer = self.act(action, body).await.expect("the socket is open");
        assert!(answer["response_status"].as_u64().is_some_and(|status| status < 300), "{answer}");
        answer["data"].clone()
    }

    /// All pushes that came before the answer to a question asked now.
    ///
    /// # Panics
    /// When the socket is closed.
    pub async fn so_far(&mut self) -> Vec<Value> {
        self.must("ping", json!({})).await;
        self.kept()
    }

    /// The pushes that came before an answer, or instead of it.
    pub fn kept(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.pushes)
    }

    /// The next push.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn push(&mut self) -> Result<Value, Error> {
        if self.pushes.is_empty() { self.next().await } else { Ok(self.pushes.remove(0)) }
    }

    /// The next push of an event, all others passed over.
    ///
    /// # Errors
    /// When the socket is closed, or there is none for too long.
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
