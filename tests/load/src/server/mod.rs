//! Defines how to talk to each server under test: everything that differs between Roomcast and the other servers.

mod centrifugo;
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

/// Identifies a socket, and its room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketIndex {
    /// The socket's number among all sockets, from 0.
    pub(crate) socket: usize,
    /// The room's number, from 0.
    pub(crate) room: usize,
}

/// A socket's position in the events of its room, for resuming after a reconnect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResumePosition {
    /// The id of the last event that the socket received.
    pub(crate) after_id: u64,
    /// The epoch of the id, as JSON.
    pub(crate) epoch: String,
}

/// The answer to a socket that joins its room.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct JoinAnswer {
    /// The socket's position, if the server sends it.
    pub(crate) position: Option<ResumePosition>,
    /// The sockets in the room, if the server lists them.
    pub(crate) participants: HashSet<usize>,
}

/// A push of a socket's join or leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParticipantChange {
    /// The socket's number.
    pub(crate) socket: usize,
    /// Whether the socket is in the room now.
    pub(crate) is_present: bool,
}

/// The meaning of a frame without a message, for the socket that received it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FrameMeaning {
    /// The frame needs no reaction.
    Nothing,
    /// The socket is in its room now.
    Joined(JoinAnswer),
    /// The socket is outside of its room now.
    Left,
    /// The server answers a message that the socket sent.
    Acknowledged {
        /// The message's number among all messages sent.
        number: u64,
        /// Whether the server accepted the message.
        outcome: PostOutcome,
    },
    /// The socket must send this text.
    Respond(String),
    /// The server refuses, with this reason.
    Refused(String),
    /// The server refuses because of a rate limit, with this reason.
    RateLimited(String),
}

/// A message to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewPost<'a> {
    /// The room's number.
    pub(crate) room: usize,
    /// The writer's number among the writers of all rooms.
    pub(crate) writer: usize,
    /// The message's number among all messages sent.
    pub(crate) number: u64,
    /// The text: ASCII without quotes, so that it needs no escaping.
    pub(crate) text: &'a str,
}

/// The route that messages take to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PostRoute {
    /// By a socket of the room.
    Socket,
    /// By separate HTTP connections, spread over these addresses; each message is acknowledged.
    Http(Vec<SocketAddr>),
    /// By one connection with the NATS protocol; no message is acknowledged.
    Nats(SocketAddr),
}

/// A server under test.
pub(crate) trait TestedServer {
    /// Creates the rooms, if the server needs that.
    fn create_rooms(&mut self, _rooms: usize) -> anyhow::Result<()> {
        Ok(())
    }

    /// The path of a socket's handshake, and extra headers, each ending with `\r\n`.
    fn handshake_parts(&self, index: SocketIndex) -> (String, String);

    /// The frames by which a socket joins its room; empty if the handshake joins the room of its path.
    fn join_frames(&self, index: SocketIndex) -> Vec<String>;

    /// The frame by which a socket leaves its room.
    fn leave_frame(&self, _index: SocketIndex) -> Option<String> {
        None
    }

    /// The frame by which a socket resumes from a position.
    fn resume_frame(&self, _index: SocketIndex, _position: &ResumePosition) -> Option<String> {
        None
    }

    /// The id of the event that a frame delivers, if the frame has one.
    fn event_id(&self, _frame: &[u8]) -> Option<u64> {
        None
    }

    /// Whether a frame with a message is a push, not the answer to its sender.
    fn is_push(&self, _frame: &[u8]) -> bool {
        true
    }

    /// The join or leave that a frame pushes, if it does.
    fn participant_change(&self, _frame: &[u8]) -> Option<ParticipantChange> {
        None
    }

    /// Reads the server's list of participants of each room.
    fn read_participant_lists(&self) -> anyhow::Result<Vec<HashSet<usize>>> {
        bail!("this server does not list the participants of a room")
    }

    /// Whether the server acknowledges messages that sockets send.
    fn is_acknowledging(&self) -> bool {
        false
    }

    /// Whether one frame may contain messages together with something else.
    fn can_mix_in_one_frame(&self) -> bool {
        false
    }

    /// The meaning of a frame that is not a push of a message.
    fn interpret(&self, index: SocketIndex, frame: &[u8]) -> FrameMeaning;

    /// The opcode of the frames that the server expects.
    fn opcode(&self) -> u8 {
        frame::OPCODE_TEXT
    }

    fn post_route(&self) -> PostRoute {
        PostRoute::Socket
    }

    /// Appends a message in the format of its route; for sockets, the payload of the frame.
    fn write_post(&self, out: &mut Vec<u8>, post: NewPost<'_>);
}

/// The server under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServerKind {
    /// Roomcast.
    Roomcast,
    /// A server without a protocol, such as the examples of this crate: a room is a path.
    Plain,
    /// The WebSocket listener of a nats-server.
    Nats,
    /// The Socket.IO server in `tests/peers`.
    Socketio,
    /// A server that speaks the Pusher protocol.
    Pusher,
    /// Centrifugo.
    Centrifugo,
}

/// Creates the client side of the server that the arguments name.
pub(crate) fn create(config: &LoadArgs) -> anyhow::Result<Box<dyn TestedServer>> {
    Ok(match config.peer {
        ServerKind::Roomcast => Box::new(roomcast::RoomcastServer::new(config)?),
        ServerKind::Plain => Box::new(plain::PlainServer),
        ServerKind::Nats => Box::new(nats::NatsServer),
        ServerKind::Socketio => Box::new(socketio::SocketIoServer),
        ServerKind::Centrifugo => Box::new(centrifugo::CentrifugoServer(config.address.clone())),
        ServerKind::Pusher => Box::new(pusher::PusherServer(config.address.clone())),
    })
}

/// The numbers of a room's writers.
pub(crate) const fn writers_of(room: usize, writers: usize) -> Range<usize> {
    room * writers..(room + 1) * writers
}

/// Parses a frame as JSON; null if it is not JSON.
fn parse_json(frame: &[u8]) -> Value {
    serde_json::from_slice(frame).unwrap_or(Value::Null)
}
