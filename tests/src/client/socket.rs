//! Connects to a node by WebSocket, and checks the order of pushes.

use std::collections::{HashMap, VecDeque};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use crate::TIMEOUT;
use crate::native::{Push, SocketAnswer};

/// An open socket. It fails the test where the event ids of a channel do not increase.
///
/// `next` returns raw frames. `act` and `push` sort them into answers and pushes: pushes that arrive while `act` waits
/// for its answer are buffered, and `push` returns them first.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    requests: u64,
    pushes: VecDeque<Value>,
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
        let header = format!("Bearer {token}").parse().expect("a token is a valid header value");
        request.headers_mut().insert("authorization", header);
        let (stream, _) = connect_async(request).await?;
        Ok(Self { stream, requests: 0, pushes: VecDeque::new(), last: HashMap::new() })
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
    /// When the socket is closed, or nothing arrives within [`TIMEOUT`].
    ///
    /// # Panics
    /// When a channel's events are out of order.
    pub async fn next(&mut self) -> Result<Value, Error> {
        loop {
            let message = tokio::time::timeout(TIMEOUT, self.stream.next()).await;
            let message = message.map_err(|_| Error::Io(std::io::ErrorKind::TimedOut.into()))?;
            match message.ok_or(Error::ConnectionClosed)?? {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).expect("text frames are JSON");
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

    /// Sends an action and returns its answer. Buffers the pushes that arrive before it.
    ///
    /// # Errors
    /// When the socket is closed.
    ///
    /// # Panics
    /// When `body` is not an object.
    pub async fn try_act(&mut self, action: &str, body: Value) -> Result<SocketAnswer, Error> {
        self.requests += 1;
        let id = self.requests;
        let mut frame = body;
        frame["action"] = action.into();
        frame["request_id"] = id.into();
        self.send_text(&frame.to_string()).await?;
        loop {
            let frame = self.next().await?;
            if frame["request_id"] == id {
                return Ok(frame.into());
            }
            self.pushes.push_back(frame);
        }
    }

    /// Sends an action and returns its answer.
    ///
    /// # Panics
    /// When the socket is closed.
    pub async fn act(&mut self, action: &str, body: Value) -> SocketAnswer {
        let answer = self.try_act(action, body).await;
        answer.unwrap_or_else(|error| panic!("no answer to {action}: {error}"))
    }

    /// Sends an action that must succeed, and returns the answer's `data`.
    ///
    /// # Panics
    /// When the status is not 2xx, or the socket is closed.
    pub async fn act_ok(&mut self, action: &str, body: Value) -> Value {
        let answer = self.act(action, body).await;
        assert!(answer.is_success(), "{action} succeeds: {answer}");
        answer.data
    }

    /// Sends a `ping` and returns all pushes that arrived before its answer.
    ///
    /// # Panics
    /// When the socket is closed.
    pub async fn pushes_until_pong(&mut self) -> Vec<Push> {
        self.act_ok("ping", json!({})).await;
        self.take_pushes()
    }

    /// Takes the pushes that were buffered while waiting for answers.
    pub fn take_pushes(&mut self) -> Vec<Push> {
        self.pushes.drain(..).map(Push::from).collect()
    }

    /// The next push: a buffered one, else the next frame.
    ///
    /// # Errors
    /// When the socket is closed, or nothing arrives within [`TIMEOUT`].
    pub async fn try_push(&mut self) -> Result<Push, Error> {
        match self.pushes.pop_front() {
            Some(frame) => Ok(frame.into()),
            None => Ok(self.next().await?.into()),
        }
    }

    /// The next push: a buffered one, else the next frame.
    ///
    /// # Panics
    /// When the socket is closed, or nothing arrives within [`TIMEOUT`].
    pub async fn push(&mut self) -> Push {
        self.try_push().await.unwrap_or_else(|error| panic!("no push: {error}"))
    }

    /// The next push with this event name; drops all others before it.
    ///
    /// # Errors
    /// When the socket is closed, or none arrives within [`TIMEOUT`].
    pub async fn try_event(&mut self, name: &str) -> Result<Push, Error> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let push = timeout_at(deadline, self.try_push()).await;
            let push = push.map_err(|_| Error::Io(std::io::ErrorKind::TimedOut.into()))??;
            if push.event == name {
                return Ok(push);
            }
        }
    }

    /// The next push with this event name; drops all others before it.
    ///
    /// # Panics
    /// When the socket is closed, or none arrives within [`TIMEOUT`].
    pub async fn event(&mut self, name: &str) -> Push {
        self.try_event(name).await.unwrap_or_else(|error| panic!("no push of {name}: {error}"))
    }

    /// Receives the next frame, which must be an answer.
    ///
    /// # Panics
    /// When the socket is closed, or the frame is no answer.
    pub async fn answer(&mut self) -> SocketAnswer {
        self.next().await.unwrap_or_else(|error| panic!("no answer: {error}")).into()
    }
}
