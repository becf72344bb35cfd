//! Drives all sockets and sending connections of a run in one event loop.

mod churn;
mod participants;
mod sending;

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::bail;
use mio::{Events, Poll, Token, event::Event};

use crate::{
    config::{LoadArgs, Scenario},
    context::RunContext,
    delivery_check::{DeliveryTracker, Faults, WriterState},
    measurements::{Measurements, NANOS_PER_SEC},
    post_connections::PostConnections,
    server::{PostRoute, SocketIndex, TestedServer, writers_of},
    socket::{LoadSocket, SocketState},
    timing::{self, SendSchedule, WakeTimer},
};
use churn::Churn;

/// Maximum number of handshakes and joins at the same time.
pub(crate) const CONNECTING_MAX: usize = 200;
/// Maximum time without progress while the driver waits.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// One in this many sockets may be refused while all connect; each tries again.
const ONE_REFUSED_IN: usize = 10;
/// Delay between the close of a socket and its reconnect.
const RECONNECT_DELAY_NS: u64 = NANOS_PER_SEC / 5;
const TIMER_TOKEN: Token = Token(usize::MAX - 1);

/// All connections of a run, and their shared state.
pub(crate) struct LoadDriver<'a> {
    pub(crate) context: RunContext<'a>,
    /// The addresses that sockets connect to, in turn.
    addresses: &'a [SocketAddr],
    poll: Poll,
    events: Events,
    timer: WakeTimer,
    /// The buffer that every connection reads into.
    read_buffer: Box<[u8]>,
    pub(crate) sockets: Vec<LoadSocket>,
    post_connections: PostConnections,
    /// Number of messages sent since the start.
    pub(crate) sent_messages: u64,
    writers_per_room: usize,
    rooms: usize,
    text_bytes: usize,
    /// Which sockets leave their rooms and join again; `None` without churn.
    churn: Option<Churn>,
    /// Whether sockets that are closed reconnect.
    pub(crate) is_reconnecting: bool,
    /// Sockets to reconnect, with the time when each is due.
    reconnect_queue: VecDeque<(u64, usize)>,
    /// Number of reconnects since it was last taken.
    pub(crate) reconnects: u64,
    /// Number of sockets lost since it was last taken.
    lost_sockets: u64,
    /// Why the first of them was lost.
    pub(crate) first_loss: Option<String>,
}

impl<'a> LoadDriver<'a> {
    /// Creates all sockets, closed, and opens the connections for sending.
    pub(crate) fn new(config: &'a LoadArgs, server: &'a dyn TestedServer) -> anyhow::Result<Self> {
        if config.reconnect && (server.post_route() == PostRoute::Socket || config.scenario.has_churn()) {
            bail!("--reconnect cannot be used where sockets send messages, or leave and join by themselves");
        }
        let poll = Poll::new()?;
        let (rooms, sockets_per_room, writers) = (config.rooms(), config.sockets_per_room(), config.writers);
        if server.post_route() == PostRoute::Socket && sockets_per_room == 0 {
            bail!("there are no sockets to send messages by: choose another --publish, or --sockets");
        }
        let indices = (0..rooms * sockets_per_room)
            .map(|socket| SocketIndex { socket, room: socket / sockets_per_room });
        let sockets: Vec<_> = indices
            .map(|index| LoadSocket::new(index, DeliveryTracker::new(writers_of(index.room, writers))))
            .collect();
        let writer_count = rooms * writers;
        let post_connections =
            PostConnections::open(config, server.post_route(), writer_count, sockets.len(), poll.registry())?;
        Ok(Self {
            context: RunContext {
                server,
                writers: std::iter::repeat_with(WriterState::default).take(writer_count).collect(),
                idle_writers: (0..writer_count).collect(),
                measurements: Measurements::new(0, 0),
                requested_at_ns: vec![0; sockets.len()],
                keeps_positions: config.scenario == Scenario::Storm || config.reconnect,
                tracks_participants: config.scenario == Scenario::Joins,
                rate_limited: 0,
            },
            addresses: &config.address,
            events: Events::with_capacity(1024),
            timer: WakeTimer::new(poll.registry(), TIMER_TOKEN)?,
            read_buffer: vec![0; 256 << 10].into_boxed_slice(),
            post_connections,
            sent_messages: 0,
            writers_per_room: writers,
            rooms,
            text_bytes: config.size,
            churn: None,
            is_reconnecting: config.reconnect,
            reconnect_queue: VecDeque::new(),
            reconnects: 0,
            lost_sockets: 0,
            first_loss: None,
            sockets,
            poll,
        })
    }

    /// Connects all closed sockets, at most `connecting_max` at the same time, and waits until all are in their rooms.
    /// One in [`ONE_REFUSED_IN`] may be refused, and tries again; none if `is_reconnecting` is true.
    pub(crate) fn connect_all(
        &mut self,
        connecting_max: usize,
        mut progress: impl FnMut(usize),
    ) -> anyhow::Result<()> {
        let mut waiting: Vec<usize> = (0..self.sockets.len()).rev().collect();
        waiting.retain(|n| self.sockets[*n].state == SocketState::Closed);
        let (mut connecting, mut done, mut last_progress_at, mut refused) =
            (Vec::new(), 0, Instant::now(), 0);
        while !waiting.is_empty() || !connecting.is_empty() {
            while connecting.len() < connecting_max
                && let Some(next) = waiting.pop()
            {
                self.connect_one(next)?;
                connecting.push(next);
            }
            self.poll_once(Duration::from_millis(50))?;
            let before = connecting.len();
            connecting.retain(|n| self.sockets[*n].state != SocketState::Joined);
            let joined = before - connecting.len();
            let closed: Vec<_> =
                connecting.extract_if(.., |n| self.sockets[*n].state == SocketState::Closed).collect();
            refused += closed.len();
            if !closed.is_empty() && (self.is_reconnecting || refused > self.sockets.len() / ONE_REFUSED_IN) {
                bail!("a socket could not join its room: {}", self.first_loss.take().unwrap_or_default());
            }
            self.lost_sockets -= closed.len() as u64;
            // They go to the end of the queue, which gives a server that has just started some time.
            waiting.splice(0..0, closed);
            if joined > 0 {
                last_progress_at = Instant::now();
                done += joined;
                progress(done);
            } else if last_progress_at.elapsed() > IDLE_TIMEOUT {
                bail!("{} sockets could not join their rooms within {IDLE_TIMEOUT:?}", connecting.len());
            }
        }
        Ok(())
    }

    /// Starts to connect a socket. A room's sockets take the addresses in turn; so do the rooms' first sockets.
    fn connect_one(&mut self, socket: usize) -> io::Result<()> {
        let index = self.sockets[socket].index();
        let address = self.addresses[(index.room + index.socket) % self.addresses.len()];
        self.sockets[socket].open(self.context.server, address, self.poll.registry())
    }

    /// Sends what is due and handles what arrives, until a time or until `stop` returns true.
    pub(crate) fn run_until(
        &mut self,
        schedule: &mut Option<SendSchedule>,
        until_ns: u64,
        mut stop: impl FnMut(&Self) -> bool,
    ) -> anyhow::Result<()> {
        loop {
            let now = timing::now_ns();
            if now >= until_ns || stop(self) {
                return Ok(());
            }
            let mut next = self.run_due_churn(now).min(self.reconnect_due(now)?).min(until_ns);
            if let Some(schedule) = schedule {
                self.send_due(schedule, now)?;
                next = next.min(schedule.next_due_ns());
            }
            self.poll_once(Duration::from_nanos(next.saturating_sub(timing::now_ns())))?;
        }
    }

    /// The route that messages take.
    pub(crate) fn route(&self) -> PostRoute {
        self.context.server.post_route()
    }

    /// Reconnects the sockets whose time has come, and returns when the next one is due.
    fn reconnect_due(&mut self, now: u64) -> anyhow::Result<u64> {
        while let Some((due, socket)) = self.reconnect_queue.front().copied() {
            if due > now {
                return Ok(due);
            }
            self.reconnect_queue.pop_front();
            self.connect_one(socket)?;
            self.reconnects += 1;
        }
        Ok(u64::MAX)
    }

    /// Closes all sockets at once, as the crash of a node would.
    pub(crate) fn close_all(&mut self) {
        self.sockets.iter_mut().for_each(|socket| socket.close(self.poll.registry()));
    }

    /// Waits for events, at most `wait`, and handles them.
    fn poll_once(&mut self, wait: Duration) -> anyhow::Result<()> {
        let timeout = if wait < Duration::from_micros(20) {
            Duration::ZERO
        } else {
            self.timer.set(wait)?;
            IDLE_TIMEOUT
        };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let result = events.iter().try_for_each(|event| self.handle_event(event));
        self.events = events;
        result
    }

    fn handle_event(&mut self, event: &Event) -> anyhow::Result<()> {
        let token = event.token().0;
        if token == TIMER_TOKEN.0 {
            return Ok(());
        }
        if let Some(index) = token.checked_sub(self.sockets.len()) {
            let registry = self.poll.registry();
            return self.post_connections.handle_event(
                index,
                event,
                &mut self.read_buffer,
                &mut self.context,
                registry,
            );
        }
        if let Err(error) = self.handle_socket_event(token, event) {
            self.close_lost_socket(token, &error);
        }
        Ok(())
    }

    fn handle_socket_event(&mut self, token: usize, event: &Event) -> io::Result<()> {
        let socket = &mut self.sockets[token];
        if event.is_writable() {
            socket.on_writable()?;
        }
        if event.is_readable() {
            socket.on_readable(&mut self.read_buffer, event.is_read_closed(), &mut self.context)?;
        }
        Ok(())
    }

    /// Calls `act` with a socket, and closes the socket as lost if that fails.
    fn with_socket(
        &mut self,
        socket: usize,
        act: impl FnOnce(&mut LoadSocket, &mut RunContext<'a>) -> io::Result<()>,
    ) {
        if let Err(error) = act(&mut self.sockets[socket], &mut self.context) {
            self.close_lost_socket(socket, &error);
        }
    }

    fn close_lost_socket(&mut self, socket: usize, error: &io::Error) {
        let index = self.sockets[socket].index();
        if self.sockets[socket].state == SocketState::Closed {
            return;
        }
        self.first_loss
            .get_or_insert_with(|| format!("socket {} of room {}: {error}", index.socket, index.room));
        // The server may or may not have accepted these messages: they need not arrive.
        for pending in self.sockets[socket].pending().drain(..) {
            self.context.writers[pending.writer].refused_seqs.insert(pending.seq);
        }
        self.sockets[socket].close(self.poll.registry());
        if self.is_reconnecting {
            self.reconnect_queue.push_back((timing::now_ns() + RECONNECT_DELAY_NS, socket));
        } else {
            self.lost_sockets += 1;
        }
    }

    /// Whether every message that was sent has its answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.post_connections.is_answered() && self.sockets.iter().all(LoadSocket::is_answered)
    }

    /// Whether every message has its answer and every delivery has arrived. Sockets that are lost do not count.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_answered()
            && self.reconnect_queue.is_empty()
            && self.sockets.iter().all(|socket| match socket.state {
                SocketState::Closed => true,
                state => !state.is_waiting_for_answer() && socket.is_complete(&self.context.writers),
            })
            && self.count_wrong_sockets() == 0
    }

    /// Takes the faults since the last call. Messages that have not arrived count as lost.
    pub(crate) fn take_faults(&mut self) -> Faults {
        let (closed, wrong_participants) =
            (std::mem::take(&mut self.lost_sockets), self.count_wrong_sockets() as u64);
        let mut faults = Faults { closed, wrong_participants, ..Faults::default() };
        for socket in &mut self.sockets {
            faults.add(socket.take_faults(&self.context.writers));
            socket.expect_from_now(&self.context.writers);
        }
        faults
    }

    /// Reconnects all sockets that are closed, and waits for them.
    pub(crate) fn reconnect_all(&mut self) -> anyhow::Result<()> {
        self.reconnect_queue.clear();
        self.connect_all(CONNECTING_MAX, |_| ())?;
        // The faults of the closed sockets do not belong to the next run.
        self.take_faults();
        self.first_loss = None;
        Ok(())
    }
}
