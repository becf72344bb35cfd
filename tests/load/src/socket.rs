//! One of many sockets: its handshake, its room, and what it is pushed.

use std::{fmt::Write as _, io, net::SocketAddr};

use mio::Registry;

use crate::{
    check::{Faults, Stream, Tracker},
    frame::{self, Kind},
    line::Line,
    marker, pace,
    peer::{Peer, Place, Reply, Seat},
    tally::Tally,
};

/// How far a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not connected.
    Closed,
    /// Its handshake is under way.
    Opening,
    /// It has asked into its room.
    Joining,
    /// It is in its room.
    Joined,
    /// It has asked out of its room.
    Leaving,
}

/// What all sockets share while they are read.
pub(crate) struct Around<'a> {
    pub(crate) peer: &'a dyn Peer,
    pub(crate) streams: &'a [Stream],
    pub(crate) tally: &'a mut Tally,
    /// Whether sockets remember where they are, to come back there.
    pub(crate) keeps_places: bool,
}

/// A socket.
#[derive(Debug)]
pub(crate) struct Socket {
    line: Option<Line>,
    pub(crate) state: State,
    inside: Inside,
}

/// What reading touches, beside the line.
#[derive(Debug)]
struct Inside {
    seat: Seat,
    tracker: Tracker,
    /// Where it was, if it is to come back there.
    place: Option<Place>,
    /// When it asked into its room.
    asked: u64,
}

impl Socket {
    /// One that is not connected.
    pub(crate) fn new(seat: Seat, tracker: Tracker) -> Self {
        Self { line: None, state: State::Closed, inside: Inside { seat, tracker, place: None, asked: 0 } }
    }

    /// Begins to connect.
    pub(crate) fn open(&mut self, peer: &dyn Peer, registry: &Registry) -> io::Result<()> {
        let seat = self.inside.seat;
        let mut line = Line::open(peer.address(), seat.socket, registry)?;
        let (path, headers) = peer.opening(seat);
        line.out().extend(handshake(&path, &headers, peer.address()).as_bytes());
        self.line = Some(line);
        self.state = State::Opening;
        Ok(())
    }

    /// Ends its connection, if it has one.
    pub(crate) fn close(&mut self, registry: &Registry) {
        if let Some(line) = self.line.take() {
            line.close(registry);
        }
        self.state = State::Closed;
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let line = self.line.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        frame::write(line.out(), opcode, payload);
        line.flush()
    }

    /// Asks out of its room: what is sent from now on need not come.
    pub(crate) fn leave(&mut self, peer: &dyn Peer, streams: &[Stream]) -> io::Result<()> {
        let Some(frame) = peer.leave(self.seat()).filter(|_| self.state == State::Joined) else {
            return Ok(());
        };
        self.inside.tracker.release(streams);
        self.state = State::Leaving;
        self.send(peer.opcode(), frame.as_bytes())
    }

    /// It can be written to.
    pub(crate) fn writable(&mut self) -> io::Result<()> {
        self.line.as_mut().map_or(Ok(()), Line::writable)
    }

    /// Reads all that is there.
    pub(crate) fn readable(
        &mut self,
        buffer: &mut [u8],
        ends: bool,
        around: &mut Around<'_>,
    ) -> io::Result<()> {
        let Self { line: Some(line), state, inside } = self else { return Ok(()) };
        line.readable(buffer, ends, |out, bytes| inside.take(state, out, bytes, around))?;
        line.flush()
    }

    /// What it has to be told apart from others by.
    pub(crate) const fn seat(&self) -> Seat {
        self.inside.seat
    }

    /// Whether all that was sent has come.
    pub(crate) fn is_complete(&self, streams: &[Stream]) -> bool {
        self.inside.tracker.is_complete(streams)
    }

    /// What is sent from now on must come.
    pub(crate) fn promise(&mut self, streams: &[Stream]) {
        self.inside.tracker.promise(streams);
    }

    /// What went wrong with it since the last time this was asked.
    pub(crate) fn settle(&mut self, streams: &[Stream]) -> Faults {
        self.inside.tracker.finish(streams)
    }
}

fn handshake(path: &str, headers: &str, host: SocketAddr) -> String {
    let mut text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
    // The key is there for proxies; this client needs no proof that the server has read it.
    let _ = write!(
        text,
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: bG9hZCBsb2FkIGxvYWQgbA==\r\n{headers}\r\n"
    );
    text
}

impl Inside {
    fn take(
        &mut self,
        state: &mut State,
        out: &mut Vec<u8>,
        bytes: &[u8],
        around: &mut Around<'_>,
    ) -> io::Result<usize> {
        let mut taken = 0;
        if *state == State::Opening {
            let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(0) };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                let text = String::from_utf8_lossy(bytes);
                return Err(io::Error::other(format!("refused: {}", text.lines().next().unwrap_or(""))));
            }
            taken = head + 4;
            self.opened(state, out, around);
        }
        let now = pace::now();
        while let Some(frame) = frame::first(&bytes[taken..]).map_err(|_| io::Error::other("a bad frame"))? {
            match frame.kind {
                Kind::Data => self.data(state, out, frame.payload, now, around)?,
                Kind::Ping => frame::write(out, frame::PONG, frame.payload),
                Kind::Pong => {}
                Kind::Close => {
                    let why = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default());
                    return Err(io::Error::other(format!("closed: {why}")));
                }
            }
            taken += frame.len;
        }
        Ok(taken)
    }

    fn opened(&mut self, state: &mut State, out: &mut Vec<u8>, around: &mut Around<'_>) {
        match self.place.as_ref().and_then(|place| around.peer.resume(self.seat, place)) {
            Some(frame) => {
                *state = State::Joining;
                self.asked = pace::now();
                frame::write(out, around.peer.opcode(), frame.as_bytes());
            }
            None => self.join(state, out, around),
        }
    }

    fn join(&mut self, state: &mut State, out: &mut Vec<u8>, around: &mut Around<'_>) {
        *state = State::Joining;
        self.asked = pace::now();
        let frames = around.peer.join(self.seat);
        for frame in &frames {
            frame::write(out, around.peer.opcode(), frame.as_bytes());
        }
        if frames.is_empty() {
            self.joined(state, None, around);
        }
    }

    fn joined(&mut self, state: &mut State, place: Option<Place>, around: &mut Around<'_>) {
        *state = State::Joined;
        around.tally.joined(self.asked, pace::now());
        // Who comes back to where it was misses nothing.
        if self.place.is_none() {
            self.tracker.promise(around.streams);
            self.place = place.filter(|_| around.keeps_places);
        }
    }

    fn data(
        &mut self,
        state: &mut State,
        out: &mut Vec<u8>,
        payload: &[u8],
        now: u64,
        around: &mut Around<'_>,
    ) -> io::Result<()> {
        let (mut is_message, mut rest) = (false, payload);
        if around.peer.is_push(payload) {
            if let Some(place) = &mut self.place {
                place.since = around.peer.number(payload).unwrap_or(place.since);
            }
            while let Some((marker, end)) = marker::find(rest) {
                is_message = true;
                self.tracker.take(around.streams, marker.stream, marker.seq);
                around.tally.count(marker.due, now);
                rest = &rest[end..];
            }
        }
        if is_message && !around.peer.mixes() {
            return Ok(());
        }
        match around.peer.react(self.seat, payload) {
            Reply::Nothing => {}
            Reply::Answer(text) => frame::write(out, around.peer.opcode(), text.as_bytes()),
            Reply::Joined(place) => self.joined(state, place, around),
            Reply::Left => self.join(state, out, around),
            Reply::Refused(why) => return Err(io::Error::other(format!("refused: {why}"))),
        }
        Ok(())
    }
}
