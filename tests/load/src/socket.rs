//! Runs the client side of one socket: handshake, joining and leaving its room, and checking its pushes.

use std::{
    collections::{HashSet, VecDeque},
    fmt::Write as _,
    io,
    net::SocketAddr,
};

use mio::Registry;

use crate::{
    context::{PendingMessage, RunContext},
    delivery_check::{DeliveryTracker, Faults, WriterState},
    frame::{self, FrameKind},
    marker,
    nonblocking::NonblockingStream,
    server::{FrameMeaning, JoinAnswer, ParticipantChange, ResumePosition, SocketIndex, TestedServer},
    timing,
};

/// The state of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketState {
    /// Not connected.
    Closed,
    /// Waits for the answer to its handshake.
    Opening,
    /// Waits for the answer to its join.
    Joining,
    /// In its room.
    Joined,
    /// Waits for the answer to its leave.
    Leaving,
    /// Connected, but not in its room.
    OutsideRoom,
}

impl SocketState {
    /// Whether the socket waits for an answer.
    pub(crate) const fn is_waiting_for_answer(self) -> bool {
        matches!(self, Self::Opening | Self::Joining | Self::Leaving)
    }
}

/// A client socket.
#[derive(Debug)]
pub(crate) struct LoadSocket {
    stream: Option<NonblockingStream>,
    pub(crate) state: SocketState,
    session: RoomSession,
}

/// The state of a socket that handling a frame changes, apart from the connection.
#[derive(Debug)]
struct RoomSession {
    index: SocketIndex,
    tracker: DeliveryTracker,
    /// The position to resume from, if the socket keeps one.
    resume_position: Option<ResumePosition>,
    /// Whether the socket joins again once it has left.
    rejoins_once_outside: bool,
    /// The participants of the room, as this socket knows them, if it tracks them.
    participants: HashSet<usize>,
    /// The socket's messages that are not answered yet.
    pending: VecDeque<PendingMessage>,
}

impl LoadSocket {
    /// A socket that is not connected.
    pub(crate) fn new(index: SocketIndex, tracker: DeliveryTracker) -> Self {
        let session = RoomSession {
            index,
            tracker,
            resume_position: None,
            rejoins_once_outside: false,
            participants: HashSet::new(),
            pending: VecDeque::new(),
        };
        Self { stream: None, state: SocketState::Closed, session }
    }

    /// Starts to connect, and queues the handshake.
    pub(crate) fn open(
        &mut self,
        server: &dyn TestedServer,
        address: SocketAddr,
        registry: &Registry,
    ) -> io::Result<()> {
        let index = self.session.index;
        let mut stream = NonblockingStream::open(address, index.socket, registry)?;
        let (path, headers) = server.handshake_parts(index);
        stream.unsent().extend(handshake_request(&path, &headers, address).as_bytes());
        self.stream = Some(stream);
        self.state = SocketState::Opening;
        Ok(())
    }

    /// Closes the connection, if there is one.
    pub(crate) fn close(&mut self, registry: &Registry) {
        if let Some(stream) = self.stream.take() {
            stream.close(registry);
        }
        self.state = SocketState::Closed;
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        frame::write_client_frame(stream.unsent(), opcode, payload);
        stream.flush()
    }

    /// Sends a leave, if the socket is in its room. Messages sent from now on need not arrive.
    pub(crate) fn leave_room(&mut self, context: &mut RunContext<'_>) -> io::Result<()> {
        let index = self.index();
        let Some(frame) = context.server.leave_frame(index).filter(|_| self.state == SocketState::Joined)
        else {
            return Ok(());
        };
        self.session.tracker.stop_expecting(&context.writers);
        self.session.rejoins_once_outside = false;
        context.requested_at_ns[index.socket] = timing::now_ns();
        self.state = SocketState::Leaving;
        self.send(context.server.opcode(), frame.as_bytes())
    }

    /// Joins the room again. A socket that is leaving joins once it has left.
    pub(crate) fn rejoin_room(&mut self, context: &mut RunContext<'_>) -> io::Result<()> {
        let Self { stream: Some(stream), state, session } = self else { return Ok(()) };
        match state {
            SocketState::Leaving => session.rejoins_once_outside = true,
            SocketState::OutsideRoom => session.join(state, stream.unsent(), context),
            _ => {}
        }
        stream.flush()
    }

    /// Handles a writable event.
    pub(crate) fn on_writable(&mut self) -> io::Result<()> {
        self.stream.as_mut().map_or(Ok(()), NonblockingStream::on_writable)
    }

    /// Handles a readable event: reads and handles all frames.
    pub(crate) fn on_readable(
        &mut self,
        buffer: &mut [u8],
        is_read_closed: bool,
        context: &mut RunContext<'_>,
    ) -> io::Result<()> {
        let Self { stream: Some(stream), state, session } = self else { return Ok(()) };
        stream.on_readable(buffer, is_read_closed, |out, bytes| session.parse(state, out, bytes, context))?;
        stream.flush()
    }

    /// The numbers of the socket and its room.
    pub(crate) const fn index(&self) -> SocketIndex {
        self.session.index
    }

    /// The socket's messages that are not answered yet.
    pub(crate) const fn pending(&mut self) -> &mut VecDeque<PendingMessage> {
        &mut self.session.pending
    }

    /// Whether every message of the socket is answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.session.pending.is_empty()
    }

    /// The participants of the room, as this socket knows them.
    pub(crate) const fn participants(&self) -> &HashSet<usize> {
        &self.session.participants
    }

    /// Whether every delivery has arrived.
    pub(crate) fn is_complete(&self, writers: &[WriterState]) -> bool {
        self.session.tracker.is_complete(writers)
    }

    /// Messages sent from now on must arrive.
    pub(crate) fn expect_from_now(&mut self, writers: &[WriterState]) {
        self.session.tracker.expect_from_now(writers);
    }

    /// Takes the socket's faults since the last call.
    pub(crate) fn take_faults(&mut self, writers: &[WriterState]) -> Faults {
        self.session.tracker.take_faults(writers)
    }
}

fn handshake_request(path: &str, headers: &str, host: SocketAddr) -> String {
    let mut text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
    // A constant key: this client does not check `Sec-WebSocket-Accept`.
    let _ = write!(
        text,
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: bG9hZCBsb2FkIGxvYWQgbA==\r\n{headers}\r\n"
    );
    text
}

impl RoomSession {
    fn parse(
        &mut self,
        state: &mut SocketState,
        out: &mut Vec<u8>,
        bytes: &[u8],
        context: &mut RunContext<'_>,
    ) -> io::Result<usize> {
        let mut consumed = 0;
        if *state == SocketState::Opening {
            let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(0) };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                let text = String::from_utf8_lossy(bytes);
                return Err(io::Error::other(format!("refused: {}", text.lines().next().unwrap_or(""))));
            }
            consumed = head + 4;
            self.on_upgraded(state, out, context);
        }
        let now = timing::now_ns();
        while let Some(frame) =
            frame::parse_first(&bytes[consumed..]).map_err(|_| io::Error::other("a malformed frame"))?
        {
            match frame.kind {
                FrameKind::Data => self.on_data(state, out, frame.payload, now, context)?,
                FrameKind::Ping => frame::write_client_frame(out, frame::OPCODE_PONG, frame.payload),
                FrameKind::Pong => {}
                FrameKind::Close => {
                    let reason = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default());
                    return Err(io::Error::other(format!("closed: {reason}")));
                }
            }
            consumed += frame.len;
        }
        Ok(consumed)
    }

    fn on_upgraded(&mut self, state: &mut SocketState, out: &mut Vec<u8>, context: &mut RunContext<'_>) {
        match self
            .resume_position
            .as_ref()
            .and_then(|position| context.server.resume_frame(self.index, position))
        {
            Some(frame) => {
                *state = SocketState::Joining;
                context.requested_at_ns[self.index.socket] = timing::now_ns();
                frame::write_client_frame(out, context.server.opcode(), frame.as_bytes());
            }
            None => self.join(state, out, context),
        }
    }

    fn join(&mut self, state: &mut SocketState, out: &mut Vec<u8>, context: &mut RunContext<'_>) {
        *state = SocketState::Joining;
        context.requested_at_ns[self.index.socket] = timing::now_ns();
        let frames = context.server.join_frames(self.index);
        for frame in &frames {
            frame::write_client_frame(out, context.server.opcode(), frame.as_bytes());
        }
        if frames.is_empty() {
            self.on_joined(state, JoinAnswer::default(), context);
        }
    }

    fn on_joined(&mut self, state: &mut SocketState, join_answer: JoinAnswer, context: &mut RunContext<'_>) {
        *state = SocketState::Joined;
        context.measurements.record_join(context.requested_at_ns[self.index.socket], timing::now_ns());
        self.participants = join_answer.participants;
        // After a resume, everything since the last position must arrive: the tracker's expectations stay.
        if self.resume_position.is_none() {
            self.tracker.expect_from_now(&context.writers);
            self.resume_position = join_answer.position.filter(|_| context.keeps_positions);
        }
    }

    fn on_data(
        &mut self,
        state: &mut SocketState,
        out: &mut Vec<u8>,
        payload: &[u8],
        now: u64,
        context: &mut RunContext<'_>,
    ) -> io::Result<()> {
        let (mut is_message, mut rest) = (false, payload);
        if context.server.is_push(payload) {
            if let Some(position) = &mut self.resume_position {
                position.after_id = context.server.event_id(payload).unwrap_or(position.after_id);
            }
            while let Some((marker, end)) = marker::find_marker(rest) {
                is_message = true;
                self.tracker.record_received(&context.writers, marker.writer, marker.seq);
                context.measurements.record_delivery(marker.due_ns, now);
                rest = &rest[end..];
            }
        }
        if is_message && !context.server.can_mix_in_one_frame() {
            return Ok(());
        }
        if let Some(change) =
            context.server.participant_change(payload).filter(|_| context.tracks_participants)
        {
            self.on_participant_change(change, now, context);
            return Ok(());
        }
        match context.server.interpret(self.index, payload) {
            FrameMeaning::Nothing => {}
            FrameMeaning::Respond(text) => {
                frame::write_client_frame(out, context.server.opcode(), text.as_bytes());
            }
            FrameMeaning::Joined(answer) => self.on_joined(state, answer, context),
            FrameMeaning::Left if self.rejoins_once_outside => self.join(state, out, context),
            FrameMeaning::Left => *state = SocketState::OutsideRoom,
            FrameMeaning::Acknowledged { number, outcome } => {
                if let Some(position) = self.pending.iter().position(|pending| pending.number == number)
                    && let Some(pending) = self.pending.remove(position)
                {
                    context.record_answer(pending, outcome, now);
                }
            }
            FrameMeaning::RateLimited(reason) => {
                context.rate_limited += 1;
                return Err(io::Error::other(format!("refused: {reason}")));
            }
            FrameMeaning::Refused(reason) => return Err(io::Error::other(format!("refused: {reason}"))),
        }
        Ok(())
    }

    /// Updates the participants, and records the push as a delivery.
    fn on_participant_change(&mut self, change: ParticipantChange, now: u64, context: &mut RunContext<'_>) {
        if change.is_present {
            self.participants.insert(change.socket);
        } else {
            self.participants.remove(&change.socket);
        }
        if change.socket != self.index.socket {
            context
                .measurements
                .record_delivery(context.requested_at_ns.get(change.socket).copied().unwrap_or(now), now);
        }
    }
}
