//! How each server is spoken to: everything that differs between Roomcast and what it is compared with.

mod nats;
mod plain;
mod pusher;
mod roomcast;
mod socketio;

use std::{collections::HashSet, net::SocketAddr, ops::Range};

use anyhow::bail;
use clap::ValueEnum;
use serde_json::Value;

use crate::{around::Outcome, config::Config, frame};
pub(crate) use roomcast::Publish;

/// A socket's place: its number of all, and its room's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    /// Its number.
    pub(crate) socket: usize,
    /// Its room's number, from 0.
    pub(crate) room: usize,
}

/// Where a socket is in its room's order of events: what it names when it comes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The last event it has.
    pub(crate) since: u64,
    /// Within which numbers mean the same.
    pub(crate) epoch: String,
}

/// What a socket is told when it comes into its room.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it is, where the server names that.
    pub(crate) place: Option<Place>,
    /// The sockets that are there, where the server names them.
    pub(crate) company: HashSet<usize>,
}

/// A socket has come into its room, or has left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Which.
    pub(crate) socket: usize,
    /// Whether it is there now.
    pub(crate) is_here: bool,
}

/// What a frame without a message means for its socket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Nothing.
    Nothing,
    /// It is in its room now.
    Joined(Entry),
    /// It is out of its room now.
    Left,
    /// A message of it was taken, or was not.
    Answered {
        /// The message's number.
        number: u64,
        /// Whether it was.
        outcome: Outcome,
    },
    /// This has to be answered.
    Answer(String),
    /// The server refuses.
    Refused(String),
    /// The server refuses by a limit.
    Limited(String),
}

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Post<'a> {
    /// To which room.
    pub(crate) room: usize,
    /// By which writer.
    pub(crate) stream: usize,
    /// Of those that were sent by all.
    pub(crate) number: u64,
    /// Plain ASCII without quotes.
    pub(crate) text: &'a str,
}

/// By which way messages are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// By a socket of the room.
    Socket,
    /// By connections of their own that speak HTTP, spread over these: each message is acknowledged.
    Http(Vec<SocketAddr>),
    /// By one connection that speaks the broker's protocol.
    Nats(SocketAddr),
}

/// A kind of server.
pub(crate) trait Peer {
    /// Makes the rooms, where they have to be made.
    fn prepare(&mut self, _rooms: usize) -> anyhow::Result<()> {
        Ok(())
    }

    /// The path of a socket, and headers beyond those of every handshake, each with its line's end.
    fn opening(&self, seat: Seat) -> (String, String);

    /// What a socket sends to be in its room; nothing where it is by its path.
    fn join(&self, seat: Seat) -> Vec<String>;

    /// What it sends to be out of it.
    fn leave(&self, _seat: Seat) -> Option<String> {
        None
    }

    /// What it sends to come back to where it was.
    fn resume(&self, _seat: Seat, _place: &Place) -> Option<String> {
        None
    }

    /// The number of the event that a frame delivers, where it has one.
    fn number(&self, _frame: &[u8]) -> Option<u64> {
        None
    }

    /// Whether a frame that holds a message is its delivery, not an answer to who sent it.
    fn is_push(&self, _frame: &[u8]) -> bool {
        true
    }

    /// Who has come or left, where a frame says that.
    fn change(&self, _frame: &[u8]) -> Option<Change> {
        None
    }

    /// Who is in each room, as the server's lists have it.
    fn lists(&self) -> anyhow::Result<Vec<HashSet<usize>>> {
        bail!("this server has no lists of who is in a room")
    }

    /// Whether a message that a socket sends is answered.
    fn answers(&self) -> bool {
        false
    }

    /// Whether one frame may hold messages and something else.
    fn mixes(&self) -> bool {
        false
    }

    /// What any other frame means.
    fn react(&self, seat: Seat, frame: &[u8]) -> Reply;

    /// Whether its frames are texts.
    fn opcode(&self) -> u8 {
        frame::TEXT
    }

    /// By which way messages are sent.
    fn route(&self) -> Route {
        Route::Socket
    }

    /// Appends a message, as its route wants it: for sockets, what the frame holds.
    fn post(&self, out: &mut Vec<u8>, post: Post<'_>);
}

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Roomcast.
    Roomcast,
    /// A server whose rooms are paths, and that sends what it gets: the examples of this crate.
    Plain,
    /// A nats-server's own WebSocket listener.
    Nats,
    /// The Socket.IO server of `tests/peers`.
    Socketio,
    /// A server of the Pusher protocol.
    Pusher,
}

/// The server that the flags name.
pub(crate) fn of(config: &Config) -> anyhow::Result<Box<dyn Peer>> {
    Ok(match config.peer {
        Kind::Roomcast => Box::new(roomcast::Roomcast::new(config)?),
        Kind::Plain => Box::new(plain::Plain),
        Kind::Nats => Box::new(nats::Nats),
        Kind::Socketio => Box::new(socketio::SocketIo),
        Kind::Pusher => Box::new(pusher::Pusher(config.address.clone())),
    })
}

/// The streams of a room.
pub(crate) const fn streams_of(room: usize, writers: usize) -> Range<usize> {
    room * writers..(room + 1) * writers
}

/// A frame as JSON; null where it is none.
fn json(frame: &[u8]) -> Value {
    serde_json::from_slice(frame).unwrap_or(Value::Null)
}
