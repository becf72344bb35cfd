//! All sockets and links of a run, in one loop.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use anyhow::bail;
use mio::{Events, Poll, Token, event::Event};

use crate::{
    check::{Faults, Stream, Tracker},
    config::{Config, Scenario},
    link::Links,
    marker::Marker,
    pace::{self, Alarm, Pace},
    peer::{Peer, Post, Route, Seat, streams_of},
    socket::{Around, Socket, State},
    tally::{SECOND, Tally},
};

/// Handshakes and joins that are under way at once.
pub(crate) const TOGETHER: usize = 200;
/// From one socket that leaves to the next: a prime.
const STRIDE: usize = 7_919;
/// What is sent between two looks at what has come.
const BURST: usize = 512;
/// How long nothing may happen while something is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Until a socket that was closed comes back.
const PAUSE: u64 = SECOND / 5;
const ALARM: Token = Token(usize::MAX - 1);

/// Everything that is connected.
pub(crate) struct World<'a> {
    peer: &'a dyn Peer,
    poll: Poll,
    events: Events,
    alarm: Alarm,
    /// Every connection reads into this one.
    buffer: Box<[u8]>,
    pub(crate) sockets: Vec<Socket>,
    links: Links,
    pub(crate) streams: Vec<Stream>,
    pub(crate) tally: Tally,
    /// Messages sent in all.
    pub(crate) posted: u64,
    writers: usize,
    rooms: usize,
    size: usize,
    /// When sockets leave their rooms, to enter them again.
    churn: Option<Pace>,
    churned: usize,
    keeps_places: bool,
    /// Whether sockets that are closed come back; those that shall, and when.
    pub(crate) reconnects: bool,
    returning: VecDeque<(u64, usize)>,
    /// How many have come back since this was last asked.
    pub(crate) returned: u64,
    /// Sockets that were lost since this was last asked, and why the first was.
    closed: u64,
    pub(crate) why: Option<String>,
}

impl<'a> World<'a> {
    /// All seats, and the links that messages take.
    pub(crate) fn new(config: &Config, peer: &'a dyn Peer) -> anyhow::Result<Self> {
        if config.reconnect && (peer.route() == Route::Socket || config.scenario == Scenario::Mixed) {
            bail!("--reconnect: not where sockets write or come and go by themselves");
        }
        let poll = Poll::new()?;
        let (rooms, each, writers) = (config.rooms(), config.sockets(), config.writers);
        let seats = (0..rooms * each).map(|socket| Seat { socket, room: socket / each });
        let sockets: Vec<_> =
            seats.map(|seat| Socket::new(seat, Tracker::new(streams_of(seat.room, writers)))).collect();
        let (posted_by, count) = (peer.route(), rooms * writers);
        let links = Links::open(config, posted_by, count, sockets.len(), poll.registry())?;
        Ok(Self {
            peer,
            events: Events::with_capacity(1024),
            alarm: Alarm::new(poll.registry(), ALARM)?,
            buffer: vec![0; 256 << 10].into_boxed_slice(),
            links,
            streams: std::iter::repeat_with(Stream::default).take(count).collect(),
            tally: Tally::new(0, 0),
            posted: 0,
            writers,
            rooms,
            size: config.size,
            churn: None,
            churned: 0,
            keeps_places: config.scenario == Scenario::Storm || config.reconnect,
            reconnects: config.reconnect,
            returning: VecDeque::new(),
            returned: 0,
            closed: 0,
            why: None,
            sockets,
            poll,
        })
    }

    /// Connects every socket that is not, so many at once, and waits until all are in their rooms.
    pub(crate) fn open(&mut self, together: usize, mut progress: impl FnMut(usize)) -> anyhow::Result<()> {
        let mut waiting: Vec<usize> = (0..self.sockets.len()).rev().collect();
        waiting.retain(|n| self.sockets[*n].state == State::Closed);
        let (mut under_way, mut done, mut moved) = (Vec::new(), 0, Instant::now());
        while !waiting.is_empty() || !under_way.is_empty() {
            while under_way.len() < together
                && let Some(next) = waiting.pop()
            {
                self.sockets[next].open(self.peer, self.poll.registry())?;
                under_way.push(next);
            }
            self.turn(Duration::from_millis(50))?;
            let before = under_way.len();
            under_way.retain(|n| self.sockets[*n].state != State::Joined);
            if under_way.iter().any(|n| self.sockets[*n].state == State::Closed) {
                bail!("a socket is not let in: {}", self.why.take().unwrap_or_default());
            }
            if under_way.len() < before {
                moved = Instant::now();
                done += before - under_way.len();
                progress(done);
            } else if moved.elapsed() > PATIENCE {
                bail!("{} sockets are not let in within {PATIENCE:?}", under_way.len());
            }
        }
        Ok(())
    }

    /// Sends what is due, and takes what comes, until a time or until `stop` says so.
    pub(crate) fn run(
        &mut self,
        pace: &mut Option<Pace>,
        until: u64,
        mut stop: impl FnMut(&Self) -> bool,
    ) -> anyhow::Result<()> {
        loop {
            let now = pace::now();
            if now >= until || stop(self) {
                return Ok(());
            }
            let mut next = self.churn_due(now).min(self.return_due(now)?).min(until);
            if let Some(pace) = pace {
                self.send_due(pace, now)?;
                next = next.min(pace.next());
            }
            self.turn(Duration::from_nanos(next.saturating_sub(pace::now())))?;
        }
    }

    /// By which way messages are sent.
    pub(crate) fn route(&self) -> Route {
        self.peer.route()
    }

    /// From now on so many sockets a second leave their rooms and enter them again.
    pub(crate) fn churn(&mut self, rate: f64) {
        self.churn = (rate > 0.0).then(|| Pace::new(rate));
    }

    /// Has leave whose turn it is, and says when the next one's is.
    fn churn_due(&mut self, now: u64) -> u64 {
        let Some(mut pace) = self.churn else { return u64::MAX };
        while pace.next() <= now {
            // A stride without a common divisor, so that rooms come in turn as well.
            self.churned = (self.churned + STRIDE) % self.sockets.len();
            if let Err(error) = self.sockets[self.churned].leave(self.peer, &self.streams) {
                self.lose(self.churned, &error);
            }
            pace.did();
        }
        self.churn = Some(pace);
        pace.next()
    }

    /// Has come back whose time it is, and says when the next one's is.
    fn return_due(&mut self, now: u64) -> anyhow::Result<u64> {
        while let Some((due, socket)) = self.returning.front().copied() {
            if due > now {
                return Ok(due);
            }
            self.returning.pop_front();
            self.sockets[socket].open(self.peer, self.poll.registry())?;
            self.returned += 1;
        }
        Ok(u64::MAX)
    }

    /// Drops all sockets at once, as a node that dies.
    pub(crate) fn drop_all(&mut self) {
        self.sockets.iter_mut().for_each(|socket| socket.close(self.poll.registry()));
    }

    fn send_due(&mut self, pace: &mut Pace, now: u64) -> anyhow::Result<()> {
        for _ in 0..BURST {
            let due = pace.next();
            if due > now {
                break;
            }
            self.post(due)?;
            pace.did();
        }
        self.links.flush(&mut self.streams, self.poll.registry())
    }

    /// Sends the next message: every stream in turn, so that rooms are as busy as each other.
    fn post(&mut self, due: u64) -> anyhow::Result<()> {
        let turn = usize::try_from(self.posted)? % self.streams.len();
        // One writer of each room, then the next of each.
        let (room, writer) = (turn % self.rooms, turn / self.rooms);
        let index = room * self.writers + writer;
        let stream = &mut self.streams[index];
        stream.sent += 1;
        self.posted += 1;
        let marker = Marker { stream: u32::try_from(index)?, seq: stream.sent, due };
        let text = String::from_utf8(marker.text(self.size))?;
        let post = Post { room, stream: index, number: self.posted, text: &text };
        if self.links.is_empty() {
            let each = self.sockets.len() / self.rooms;
            let mut payload = Vec::new();
            self.peer.post(&mut payload, post);
            let socket = room * each + writer % each;
            if let Err(error) = self.sockets[socket].send(self.peer.opcode(), &payload) {
                self.lose(socket, &error);
                self.streams[index].refused.insert(marker.seq);
            }
            return Ok(());
        }
        self.links.post(marker.seq, post, |out, post| self.peer.post(out, post));
        Ok(())
    }

    /// Waits for something to come, no longer than that, and takes it.
    fn turn(&mut self, wait: Duration) -> anyhow::Result<()> {
        let timeout = if wait < Duration::from_micros(20) {
            Duration::ZERO
        } else {
            self.alarm.set(wait)?;
            PATIENCE
        };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let taken = events.iter().try_for_each(|event| self.take(event));
        self.events = events;
        taken
    }

    fn take(&mut self, event: &Event) -> anyhow::Result<()> {
        let token = event.token().0;
        if token == ALARM.0 {
            return Ok(());
        }
        if let Some(link) = token.checked_sub(self.sockets.len()) {
            let registry = self.poll.registry();
            return self.links.take(link, event, &mut self.buffer, &mut self.streams, registry);
        }
        if let Err(error) = self.take_socket(token, event) {
            self.lose(token, &error);
        }
        Ok(())
    }

    fn take_socket(&mut self, token: usize, event: &Event) -> io::Result<()> {
        let socket = &mut self.sockets[token];
        if event.is_writable() {
            socket.writable()?;
        }
        if event.is_readable() {
            let mut around = Around {
                peer: self.peer,
                streams: &self.streams,
                tally: &mut self.tally,
                keeps_places: self.keeps_places,
            };
            socket.readable(&mut self.buffer, event.is_read_closed(), &mut around)?;
        }
        Ok(())
    }

    fn lose(&mut self, socket: usize, error: &io::Error) {
        let seat = self.sockets[socket].seat();
        self.why.get_or_insert_with(|| format!("socket {} of room {}: {error}", seat.socket, seat.room));
        self.sockets[socket].close(self.poll.registry());
        if self.reconnects {
            self.returning.push_back((pace::now() + PAUSE, socket));
        } else {
            self.closed += 1;
        }
    }

    /// Whether all that was sent is answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.links.is_answered()
    }

    /// Whether all that was sent is answered, and has come wherever it must.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_answered()
            && self.returning.is_empty()
            && self
                .sockets
                .iter()
                .all(|socket| socket.state == State::Closed || socket.is_complete(&self.streams))
    }

    /// What went wrong since this was last asked. What is missing now is lost.
    pub(crate) fn settle(&mut self) -> Faults {
        let mut faults = Faults { closed: std::mem::take(&mut self.closed), ..Faults::default() };
        for socket in &mut self.sockets {
            faults.add(socket.settle(&self.streams));
            socket.promise(&self.streams);
        }
        faults
    }

    /// Lets everyone in again who was closed.
    pub(crate) fn recover(&mut self) -> anyhow::Result<()> {
        self.open(TOGETHER, |_| ())?;
        // What became of those that were closed meanwhile is no fault of the next run.
        self.settle();
        self.why = None;
        Ok(())
    }
}
