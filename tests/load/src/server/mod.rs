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

use crate::{config::LoadArgs, context::PostOutcome, frame};
pub(crate) use roomcast::PublishMethod;

/// A socket's place: its number of all, and its room's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketIndex {
    /// Its number.
    pub(crate) socket: usize,
    /// Its room's number, from 0.
    pub(crate) room: usize,
}

/// Where a socket is in its room's order of events: what it names when it comes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResumePosition {
    /// The last event it has.
    pub(crate) after_id: u64,
    /// Within which numbers mean the same.
    pub(crate) epoch: String,
}

/// What a socket is told when it comes into its room.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct JoinAnswer {
    /// Where it is, where the server names that.
    pub(crate) position: Option<ResumePosition>,
    /// The sockets that are there, where the server names them.
    pub(crate) participants: HashSet<usize>,
}

/// A socket has come into its room, or has left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParticipantChange {
    /// Which.
    pub(crate) socket: usize,
    /// Whether it is there now.
    pub(crate) is_present: bool,
}

/// What a frame without a message means for its socket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FrameMeaning {
    /// Nothing.
    Nothing,
    /// It is in its room now.
    Joined(JoinAnswer),
    /// It is out of its room now.
    Left,
    /// A message of it was taken, or was not.
    Acknowledged {
        /// The message's number.
        number: u64,
        /// Whether it was.
        outcome: PostOutcome,
    },
    /// This has to be answered.
    Respond(String),
    /// The server refuses.
    Refused(String),
    /// The server refuses by a limit.
    RateLimited(String),
}

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewPost<'a> {
    /// To which room.
    pub(crate) room: usize,
    /// By which writer.
    pub(crate) writer: usize,
    /// Of those that were sent by all.
    pub(crate) number: u64,
    /// Plain ASCII without quotes.
    pub(crate) text: &'a str,
}

/// By which way messages are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PostRoute {
    /// By a socket of the room.
    Socket,
    /// By connections of their own that speak HTTP, spread over these: each message is acknowledged.
    Http(Vec<SocketAddr>),
    /// By one connection that speaks the broker's protocol.
    Nats(SocketAddr),
}

/// A kind of server.
pub(crate) trait TestedServer {
    /// Makes the rooms, where they have to be made.
    fn create_rooms(&mut self, _rooms: usize) -> anyhow::Result<()> {
        Ok(())
    }

    /// The path of a socket, and headers beyond those of every handshake, each with its line's end.
    fn handshake_parts(&self, seat: SocketIndex) -> (String, String);

    /// What a socket sends to be in its room; nothing where it is by its path.
    fn join_frames(&self, seat: SocketIndex) -> Vec<String>;

    /// What it sends to be out of it.
    fn leave_frame(&self, _seat: SocketIndex) -> Option<String> {
        None
    }

    /// What it sends to come back to where it was.
    fn resume_frame(&self, _seat: SocketIndex, _place: &ResumePosition) -> Option<String> {
        None
    }

    /// The number of the event that a frame delivers, where it has one.
    fn event_id(&self, _frame: &[u8]) -> Option<u64> {
        None
    }

    /// Whether a frame that holds a message is its delivery, not an answer to who sent it.
    fn is_push(&self, _frame: &[u8]) -> bool {
        true
    }

    /// Who has come or left, where a frame says that.
    fn participant_change(&self, _frame: &[u8]) -> Option<ParticipantChange> {
        None
    }

    /// Who is in each room, as the server's lists have it.
    fn read_participant_lists(&self) -> anyhow::Result<Vec<HashSet<usize>>> {
        bail!("this server has no lists of who is in a room")
    }

    /// Whether a message that a socket sends is answered.
    fn is_acknowledging(&self) -> bool {
        false
    }

    /// Whether one frame may hold messages and something else.
    fn can_mix_in_one_frame(&self) -> bool {
        false
    }

    /// What any other frame means.
    fn interpret(&self, seat: SocketIndex, frame: &[u8]) -> FrameMeaning;

    /// Whether its frames are texts.
    fn opcode(&self) -> u8 {
        frame::OPCODE_TEXT
    }

    /// By which way messages are sent.
    fn post_route(&self) -> PostRoute {
        PostRoute::Socket
    }

    /// Appends a message, as its route wants it: for sockets, what the frame holds.
    fn write_post(&self, out: &mut Vec<u8>, post: NewPost<'_>);
}

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServerKind {
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
pub(crate) fn create(config: &LoadArgs) -> anyhow::Result<Box<dyn TestedServer>> {
    Ok(match config.peer {
        ServerKind::Roomcast => Box::new(roomcast::RoomcastServer::new(config)?),
        ServerKind::Plain => Box::new(plain::PlainServer),
        ServerKind::Nats => Box::new(nats::NatsServer),
        ServerKind::Socketio => Box::new(socketio::SocketIoServer),
        ServerKind::Pusher => Box::new(pusher::PusherServer(config.address.clone())),
    })
}

/// The streams of a room.
pub(crate) const fn writers_of(room: usize, writers: usize) -> Range<usize> {
    room * writers..(room + 1) * writers
}

/// A frame as JSON; null where it is none.
fn parse_json(frame: &[u8]) -> Value {
    serde_json::from_slice(frame).unwrap_or(Value::Null)
}
