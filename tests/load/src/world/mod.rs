//! All sockets and links of a run, in one loop.

mod churn;
mod company;
mod writing;

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::bail;
use mio::{Events, Poll, Token, event::Event};

use crate::{
    around::Around,
    check::{Faults, Stream, Tracker},
    config::{Config, Scenario},
    link::Links,
    pace::{self, Alarm, Pace},
    peer::{Peer, Route, Seat, streams_of},
    socket::{Socket, State},
    tally::{SECOND, Tally},
};
use churn::Churn;

/// Handshakes and joins that are under way at once.
pub(crate) const TOGETHER: usize = 200;
/// How long nothing may happen while something is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// One in so many sockets may be turned away at first.
const TURNED_AWAY: usize = 10;
/// Until a socket that was closed comes back.
const PAUSE: u64 = SECOND / 5;
const ALARM: Token = Token(usize::MAX - 1);

/// Everything that is connected.
pub(crate) struct World<'a> {
    pub(crate) around: Around<'a>,
    /// Where sockets connect.
    addresses: &'a [SocketAddr],
    poll: Poll,
    events: Events,
    alarm: Alarm,
    /// Every connection reads into this one.
    buffer: Box<[u8]>,
    pub(crate) sockets: Vec<Socket>,
    links: Links,
    /// Messages sent in all.
    pub(crate) posted: u64,
    writers: usize,
    rooms: usize,
    size: usize,
    /// When sockets leave their rooms, to enter them again.
    churn: Option<Churn>,
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
    pub(crate) fn new(config: &'a Config, peer: &'a dyn Peer) -> anyhow::Result<Self> {
        if config.reconnect && (peer.route() == Route::Socket || config.scenario.moves()) {
            bail!("--reconnect: not where sockets write or come and go by themselves");
        }
        let poll = Poll::new()?;
        let (rooms, each, writers) = (config.rooms(), config.sockets(), config.writers);
        if peer.route() == Route::Socket && each == 0 {
            bail!("without a socket nobody can write by one: choose another --publish, or --sockets");
        }
        let seats = (0..rooms * each).map(|socket| Seat { socket, room: socket / each });
        let sockets: Vec<_> =
            seats.map(|seat| Socket::new(seat, Tracker::new(streams_of(seat.room, writers)))).collect();
        let streams = rooms * writers;
        let links = Links::open(config, peer.route(), streams, sockets.len(), poll.registry())?;
        Ok(Self {
            around: Around {
                peer,
                streams: std::iter::repeat_with(Stream::default).take(streams).collect(),
                free: (0..streams).collect(),
                tally: Tally::new(0, 0),
                asked: vec![0; sockets.len()],
                keeps_places: config.scenario == Scenario::Storm || config.reconnect,
                keeps_company: config.scenario == Scenario::Joins,
                limited: 0,
            },
            addresses: &config.address,
            events: Events::with_capacity(1024),
            alarm: Alarm::new(poll.registry(), ALARM)?,
            buffer: vec![0; 256 << 10].into_boxed_slice(),
            links,
            posted: 0,
            writers,
            rooms,
            size: config.size,
            churn: None,
            reconnects: config.reconnect,
            returning: VecDeque::new(),
            returned: 0,
            closed: 0,
            why: None,
            sockets,
            poll,
        })
    }

    /// Connects every socket that is not, so many at once, and waits until all are in their rooms. A few may
    /// be turned away at first, and ask again.
    pub(crate) fn open(&mut self, together: usize, mut progress: impl FnMut(usize)) -> anyhow::Result<()> {
        let mut waiting: Vec<usize> = (0..self.sockets.len()).rev().collect();
        waiting.retain(|n| self.sockets[*n].state == State::Closed);
        let (mut under_way, mut done, mut moved, mut turned_away) = (Vec::new(), 0, Instant::now(), 0);
        while !waiting.is_empty() || !under_way.is_empty() {
            while under_way.len() < together
                && let Some(next) = waiting.pop()
            {
                self.open_one(next)?;
                under_way.push(next);
            }
            self.turn(Duration::from_millis(50))?;
            let before = under_way.len();
            under_way.retain(|n| self.sockets[*n].state != State::Joined);
            let joined = before - under_way.len();
            let closed: Vec<_> =
                under_way.extract_if(.., |n| self.sockets[*n].state == State::Closed).collect();
            turned_away += closed.len();
            if !closed.is_empty() && (self.reconnects || turned_away > self.sockets.len() / TURNED_AWAY) {
                bail!("a socket is not let in: {}", self.why.take().unwrap_or_default());
            }
            self.closed -= closed.len() as u64;
            // Last of all: a server that has just begun is given time.
            waiting.splice(0..0, closed);
            if joined > 0 {
                moved = Instant::now();
                done += joined;
                progress(done);
            } else if moved.elapsed() > PATIENCE {
                bail!("{} sockets are not let in within {PATIENCE:?}", under_way.len());
            }
        }
        Ok(())
    }

    /// Begins to connect one: each room's sockets to every address in turn, as are the rooms' first.
    fn open_one(&mut self, socket: usize) -> io::Result<()> {
        let seat = self.sockets[socket].seat();
        let address = self.addresses[(seat.room + seat.socket) % self.addresses.len()];
        self.sockets[socket].open(self.around.peer, address, self.poll.registry())
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
        self.around.peer.route()
    }

    /// Has come back whose time it is, and says when the next one's is.
    fn return_due(&mut self, now: u64) -> anyhow::Result<u64> {
        while let Some((due, socket)) = self.returning.front().copied() {
            if due > now {
                return Ok(due);
            }
            self.returning.pop_front();
            self.open_one(socket)?;
            self.returned += 1;
        }
        Ok(u64::MAX)
    }

    /// Drops all sockets at once, as a node that dies.
    pub(crate) fn drop_all(&mut self) {
        self.sockets.iter_mut().for_each(|socket| socket.close(self.poll.registry()));
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
            return self.links.take(link, event, &mut self.buffer, &mut self.around, registry);
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
            socket.readable(&mut self.buffer, event.is_read_closed(), &mut self.around)?;
        }
        Ok(())
    }

    /// Does something with a socket, which is lost where that fails.
    fn of(&mut self, socket: usize, act: impl FnOnce(&mut Socket, &mut Around<'a>) -> io::Result<()>) {
        if let Err(error) = act(&mut self.sockets[socket], &mut self.around) {
            self.lose(socket, &error);
        }
    }

    fn lose(&mut self, socket: usize, error: &io::Error) {
        let seat = self.sockets[socket].seat();
        if self.sockets[socket].state == State::Closed {
            return;
        }
        self.why.get_or_insert_with(|| format!("socket {} of room {}: {error}", seat.socket, seat.room));
        // Of what it waits for nobody knows whether it was taken.
        for of in self.sockets[socket].waiting().drain(..) {
            self.around.streams[of.stream].refused.insert(of.seq);
        }
        self.sockets[socket].close(self.poll.registry());
        if self.reconnects {
            self.returning.push_back((pace::now() + PAUSE, socket));
        } else {
            self.closed += 1;
        }
    }

    /// Whether all that was sent is answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.links.is_answered() && self.sockets.iter().all(Socket::is_answered)
    }

    /// Whether all that was sent is answered, and has come wherever it must.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_answered()
            && self.returning.is_empty()
            && self.sockets.iter().all(|socket| match socket.state {
                State::Closed => true,
                state => !state.is_asking() && socket.is_complete(&self.around.streams),
            })
            && self.misled() == 0
    }

    /// What went wrong since this was last asked. What is missing now is lost.
    pub(crate) fn settle(&mut self) -> Faults {
        let (closed, misled) = (std::mem::take(&mut self.closed), self.misled() as u64);
        let mut faults = Faults { closed, misled, ..Faults::default() };
        for socket in &mut self.sockets {
            faults.add(socket.settle(&self.around.streams));
            socket.promise(&self.around.streams);
        }
        faults
    }

    /// Lets everyone in again who was closed.
    pub(crate) fn recover(&mut self) -> anyhow::Result<()> {
        self.returning.clear();
        self.open(TOGETHER, |_| ())?;
        // What became of those that were closed meanwhile is no fault of the next run.
        self.settle();
        self.why = None;
        Ok(())
    }
}
