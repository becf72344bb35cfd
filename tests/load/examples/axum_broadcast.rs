//! Serves rooms in the simplest way with axum: a `tokio::sync::broadcast` per room, and a forwarding task per socket.
//!
//! A room is the path of its sockets. Each message is forwarded to all sockets of the room.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{
        Path, State,
        ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    },
    response::Response,
    routing::any,
    serve::ListenerExt as _,
};
use clap::Parser;
use tokio::sync::broadcast::{Sender, channel, error::RecvError};

#[derive(Parser)]
struct Arguments {
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:9002")]
    listen: SocketAddr,
    /// Bytes of each socket's buffers; by default those of axum.
    #[arg(long)]
    buffer: Option<usize>,
    /// Messages that a room buffers for its slowest socket.
    #[arg(long, default_value_t = 1_024)]
    keep: usize,
}

#[derive(Clone)]
struct Rooms {
    rooms: Arc<Mutex<HashMap<String, Sender<Utf8Bytes>>>>,
    buffer: Option<usize>,
    keep: usize,
}

impl Rooms {
    fn of(&self, name: String) -> Sender<Utf8Bytes> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.entry(name).or_insert_with(|| channel(self.keep).0).clone()
    }
}

async fn upgrade(
    State(rooms): State<Rooms>,
    Path(room): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let upgrade = match rooms.buffer {
        Some(bytes) => upgrade.read_buffer_size(bytes).write_buffer_size(bytes),
        None => upgrade,
    };
    let room = rooms.of(room);
    upgrade.on_upgrade(move |socket| forward(socket, room))
}

async fn forward(mut socket: WebSocket, room: Sender<Utf8Bytes>) {
    let mut messages = room.subscribe();
    loop {
        tokio::select! {
            messages = messages.recv() => match messages {
                Ok(text) => {
                    if socket.send(Message::Text(text)).await.is_err() {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            message = socket.recv() => match message {
                // A room without receivers is not an error.
                Some(Ok(Message::Text(text))) => drop(room.send(text)),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    rlimit::increase_nofile_limit(u64::MAX)?;
    let rooms = Rooms { rooms: Arc::default(), buffer: arguments.buffer, keep: arguments.keep };
    let router = Router::new().route("/{room}", any(upgrade)).with_state(rooms);
    let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
    // A failure only makes the figures worse.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, router).await
}
