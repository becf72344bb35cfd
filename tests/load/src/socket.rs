//! One of many sockets: its handshake, its room, and what it is pushed.

use std::{
    collections::{HashSet, VecDeque},
    fmt::Write as _,
    io,
    net::SocketAddr,
};

use mio::Registry;

use crate::{
    around::{Around, Waiting},
    check::{Faults, Stream, Tracker},
    frame::{self, Kind},
    line::Line,
    marker, pace,
    peer::{Change, Entry, Peer, Place, Reply, Seat},
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
    /// It is out of its room.
    Outside,
}

impl State {
    /// Whether an answer will change it.
    pub(crate) const fn is_asking(self) -> bool {
        matches!(self, Self::Opening | Self::Joining | Self::Leaving)
    }
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
    /// Whether it asks in again once it is out.
    turns_back: bool,
    /// Who it takes for present, if it remembers that.
    company: HashSet<usize>,
    /// Its messages that wait for their answers.
    waiting: VecDeque<Waiting>,
}

impl Socket {
    /// One that is not connected.
    pub(crate) fn new(seat: Seat, tracker: Tracker) -> Self {
        let inside = Inside {
            seat,
            tracker,
            place: None,
            turns_back: false,
            company: HashSet::new(),
            waiting: VecDeque::new(),
        };
        Self { line: None, state: State::Closed, inside }
    }

    /// Begins to connect.
    pub(crate) fn open(
        &mut self,
        peer: &dyn Peer,
        address: SocketAddr,
        registry: &Registry,
    ) -> io::Result<()> {
        let seat = self.inside.seat;
        let mut line = Line::open(address, seat.socket, registry)?;
        let (path, headers) = peer.opening(seat);
        line.out().extend(handshake(&path, &headers, address).as_bytes());
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
    pub(crate) fn leave(&mut self, around: &mut Around<'_>) -> io::Result<()> {
        let seat = self.seat();
        let Some(frame) = around.peer.leave(seat).filter(|_| self.state == State::Joined) else {
            return Ok(());
        };
        self.inside.tracker.release(&around.streams);
        self.inside.turns_back = false;
        around.asked[seat.socket] = pace::now();
        self.state = State::Leaving;
        self.send(around.peer.opcode(), frame.as_bytes())
    }

    /// Asks into its room again; who is on the way out does so once outside.
    pub(crate) fn enter(&mut self, around: &mut Around<'_>) -> io::Result<()> {
        let Self { line: Some(line), state, inside } = self else { return Ok(()) };
        match state {
            State::Leaving => inside.turns_back = true,
            State::Outside => inside.join(state, line.out(), around),
            _ => {}
        }
        line.flush()
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

    /// Its messages that wait for their answers.
    pub(crate) const fn waiting(&mut self) -> &mut VecDeque<Waiting> {
        &mut self.inside.waiting
    }

    /// Whether none waits.
    pub(crate) fn is_answered(&self) -> bool {
        self.inside.waiting.is_empty()
    }

    /// Who it takes for present.
    pub(crate) const fn company(&self) -> &HashSet<usize> {
        &self.inside.company
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
                around.asked[self.seat.socket] = pace::now();
                frame::write(out, around.peer.opcode(), frame.as_bytes());
            }
            None => self.join(state, out, around),
        }
    }

    fn join(&mut self, state: &mut State, out: &mut Vec<u8>, around: &mut Around<'_>) {
        *state = State::Joining;
        around.asked[self.seat.socket] = pace::now();
        let frames = around.peer.join(self.seat);
        for frame in &frames {
            frame::write(out, around.peer.opcode(), frame.as_bytes());
        }
        if frames.is_empty() {
            self.joined(state, Entry::default(), around);
        }
    }

    fn joined(&mut self, state: &mut State, entry: Entry, around: &mut Around<'_>) {
        *state = State::Joined;
        around.tally.joined(around.asked[self.seat.socket], pace::now());
        self.company = entry.company;
        // Who comes back to where it was misses nothing.
        if self.place.is_none() {
            self.tracker.promise(&around.streams);
            self.place = entry.place.filter(|_| around.keeps_places);
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
                self.tracker.take(&around.streams, marker.stream, marker.seq);
                around.tally.count(marker.due, now);
                rest = &rest[end..];
            }
        }
        if is_message && !around.peer.mixes() {
            return Ok(());
        }
        if let Some(change) = around.peer.change(payload).filter(|_| around.keeps_company) {
            self.change(change, now, around);
            return Ok(());
        }
        match around.peer.react(self.seat, payload) {
            Reply::Nothing => {}
            Reply::Answer(text) => frame::write(out, around.peer.opcode(), text.as_bytes()),
            Reply::Joined(entry) => self.joined(state, entry, around),
            Reply::Left if self.turns_back => self.join(state, out, around),
            Reply::Left => *state = State::Outside,
            Reply::Answered { number, outcome } => {
                if let Some(at) = self.waiting.iter().position(|of| of.number == number)
                    && let Some(of) = self.waiting.remove(at)
                {
                    around.answered(of, outcome, now);
                }
            }
            Reply::Limited(why) => {
                around.limited += 1;
                return Err(io::Error::other(format!("refused: {why}")));
            }
            Reply::Refused(why) => return Err(io::Error::other(format!("refused: {why}"))),
        }
        Ok(())
    }

    /// Somebody has come, or has left.
    fn change(&mut self, change: Change, now: u64, around: &mut Around<'_>) {
        if change.is_here {
            self.company.insert(change.socket);
        } else {
            self.company.remove(&change.socket);
        }
        if change.socket != self.seat.socket {
            around.tally.count(around.asked.get(change.socket).copied().unwrap_or(now), now);
        }
    }
}
