//! One socket, one task: it reads frames, has their actions decided, and writes what waits.
//!
//! What must hold: at most one action is under way, so a sender's order is kept; what is pending
//! leaves in one write; an idle socket holds no buffer.

pub(crate) mod action;
pub(crate) mod close;
mod envelope;
pub(crate) mod frame;
mod local;
pub(crate) mod outbox;
mod socket;

#[cfg(fuzzing)]
pub(crate) use envelope::read_any;
pub(crate) use socket::Socket;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use shared::{
    clock::Timestamp,
    id::{RoomId, TeamId},
    metric_names as names,
    rpc::Surface,
    rules::Caller,
    subject::Channel,
    token::Identity,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{hub::sessions::Registered, node::Node};
use action::{Applied, Underway};
use close::CloseReason;
use frame::{Decoder, Incoming};
use outbox::Outbox;

/// Between pings of the server.
const PING: Duration = Duration::from_secs(25);
/// Pings that may go unanswered.
const MISSES: u32 = 2;
/// How long the last of them is waited for: a half-open socket is noticed within 60 s.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// How long a goodbye may take to be written and answered.
const GOODBYE: Duration = Duration::from_secs(5);

/// What a session knows of itself.
pub(crate) struct State {
    /// Its number on this node.
    pub(crate) connection: u64,
    /// Who it is.
    pub(crate) caller: Caller,
    /// Which sort of socket it is.
    pub(crate) surface: Surface,
    /// Until when its token counts.
    pub(crate) expires: Instant,
    /// What it follows, by which of its frames' asking.
    pub(crate) channels: HashMap<Channel, u64>,
    /// Where its person is a participant through it.
    pub(crate) rooms: HashSet<RoomId>,
    /// Those of them that are of two.
    pub(crate) pairs: HashSet<RoomId>,
    /// The rooms that it follows by belonging to a team, and by which frame's asking.
    pub(crate) teams: HashMap<RoomId, (TeamId, u64)>,
    /// When it last told that its person writes.
    pub(crate) typed: Option<Instant>,
    /// Whom its person may send signals to.
    may_signal: local::MaySignal,
    /// Frames read so far: the number names the frame for retries.
    pub(crate) frames: u64,
}

struct Session {
    node: Arc<Node>,
    socket: Socket,
    outbox: Arc<Outbox>,
    decoder: Decoder,
    state: State,
    underway: Option<Underway>,
    unanswered: u32,
}

/// How a socket begins.
pub(crate) struct Opening {
    /// Whose it is.
    identity: Identity,
    /// Which sort of socket it is.
    surface: Surface,
    /// What is done first, as if the client had asked.
    first: Option<String>,
    connection: u64,
    outbox: Arc<Outbox>,
    registered: Registered,
}

impl Opening {
    /// Lists the socket before it is upgraded: whoever is told that they are connected, a drain reaches.
    pub(crate) fn new(node: &Node, identity: Identity, surface: Surface, first: Option<String>) -> Self {
        let connection = node.next_connection();
        let outbox = Arc::new(Outbox::new(node.outbox_bytes, surface.into()));
        let registered = node.sessions.register(connection, identity.caller.user.clone(), outbox.clone());
        Self { identity, surface, first, connection, outbox, registered }
    }
}

/// Serves a socket until it closes.
pub(crate) async fn run(
    node: Arc<Node>,
    socket: Socket,
    read: &[u8],
    opening: Opening,
    stop: CancellationToken,
) {
    let Opening { identity, surface, first, connection, outbox, registered } = opening;
    let user = identity.caller.user.clone();
    node.presence.enter(None, user.clone());
    let open = metrics::gauge!(names::SOCKETS_OPEN);
    open.increment(1.0);
    let state = State {
        connection,
        expires: match surface {
            Surface::Native => expires(&identity),
            Surface::Match | Surface::MatchAdmin => Instant::now() + node.max_age,
        },
        caller: identity.caller,
        surface,
        channels: HashMap::new(),
        rooms: HashSet::new(),
        pairs: HashSet::new(),
        teams: HashMap::new(),
        typed: None,
        may_signal: HashMap::new(),
        frames: 0,
    };
    let presence = node.presence.clone();
    let mut session =
        Session { node, socket, outbox, decoder: Decoder::default(), state, underway: None, unanswered: 0 };
    if let Some(first) = first {
        session.begin(&first);
    }
    // What came with the handshake was read with it.
    session.decoder.push(read);
    let reason = tokio::select! {
        reason = session.serve() => reason,
        () = stop.cancelled() => None,
    };
    session.finish(reason).await;
    presence.lose(None, user);
    drop(registered);
    open.decrement(1.0);
}

/// When the token expires, on the clock that timers use.
fn expires(identity: &Identity) -> Instant {
    let left = identity.expires_at.saturating_mul(1_000).saturating_sub(Timestamp::now().unix_ms());
    // A timer can't be set for ever; a year is as good.
    let left = Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(Duration::from_secs(31_536_000));
    Instant::now() + left
}

impl Session {
    /// Runs until the socket is to be closed; `None` where it is gone already.
    async fn serve(&mut self) -> Option<CloseReason> {
        let mut next_ping = Instant::now() + PING;
        loop {
            self.take_evictions();
            if let Some(reason) = self.take_frames() {
                return Some(reason);
            }
            self.outbox.take(&mut self.socket.pending);
            let was_resuming = self.outbox.is_resuming();
            let Ok(wrote) = self.socket.flush(&self.outbox) else { return None };
            if let Some(reason) = self.outbox.closing() {
                return Some(reason);
            }
            if was_resuming {
                // Nothing is read of it meanwhile, pongs neither: that it takes bytes must do.
                self.unanswered = if wrote { 0 } else { self.unanswered };
                if self.may_act() {
                    continue;
                }
            }
            let reads = self.may_act();
            let expires = self.state.expires;
            tokio::select! {
                applied = finished(&mut self.underway) => {
                    self.underway = None;
                    action::settle(&self.node, &mut self.state, applied);
                }
                () = self.outbox.changed() => {}
                ready = self.socket.ready(reads) => match ready {
                    Ok(()) if reads => match self.socket.read(&mut self.decoder) {
                        Ok(true) => {}
                        Ok(false) | Err(_) => return None,
                    },
                    Ok(()) => {}
                    Err(_) => return None,
                },
                () = sleep_until(next_ping.min(expires)) => {
                    if Instant::now() >= expires {
                        return Some(match self.state.surface {
                            Surface::Native => CloseReason::TokenExpired,
                            Surface::Match | Surface::MatchAdmin => CloseReason::MaxAge,
                        });
                    }
                    if self.unanswered == MISSES {
                        return Some(CloseReason::Dead);
                    }
                    self.unanswered += 1;
                    next_ping += if self.unanswered == MISSES { LAST_WAIT } else { PING };
                    self.outbox.push(frame::ping());
                }
            }
        }
    }

    /// Leaves what it may not follow any more. While an action is under way nothing else is done in
    /// its name, and what the action has asked for must be known first.
    fn take_evictions(&mut self) {
        if self.underway.is_none() {
            for (channel, frame) in self.outbox.evictions() {
                action::evicted(&self.node, &mut self.state, &self.outbox, &channel, frame);
            }
        }
    }

    /// Whether the next frame's turn has come.
    fn may_act(&self) -> bool {
        self.underway.is_none() && !self.outbox.is_resuming()
    }

    /// Handles what was read, as far as no action is under way.
    fn take_frames(&mut self) -> Option<CloseReason> {
        while self.may_act() {
            match self.decoder.next() {
                Ok(None) => return None,
                Ok(Some(incoming)) => {
                    // Whatever it sends shows that it lives.
                    self.unanswered = 0;
                    match incoming {
                        Incoming::Text(text) => self.begin(&text),
                        Incoming::Binary => {
                            self.outbox.push(envelope::error(None, 400, "Frames must be text."));
                        }
                        Incoming::Ping(payload) => drop(self.outbox.push(frame::pong(&payload))),
                        Incoming::Pong => {}
                        Incoming::Close(_) => return Some(CloseReason::Goodbye),
                    }
                }
                Err(violation) => return Some(CloseReason::Violation(violation)),
            }
        }
        None
    }

    fn begin(&mut self, text: &str) {
        self.state.frames += 1;
        metrics::counter!(names::FRAMES_RECEIVED_TOTAL).increment(1);
        self.underway = action::begin(&self.node, &self.state, &self.outbox, text);
    }

    /// Says goodbye where there is someone to hear it, and leaves everything.
    async fn finish(mut self, reason: Option<CloseReason>) {
        if let Some(reason) = reason {
            metrics::counter!(names::CLOSES_TOTAL, "reason" => reason.as_str()).increment(1);
            if reason == CloseReason::SlowConsumer {
                self.socket.drop_whole_frames();
            } else {
                self.outbox.take(&mut self.socket.pending);
            }
            self.socket.pending.push_back(frame::close(reason.code(), &reason.text()));
            // A client that does not read its goodbye is left.
            let _ = tokio::time::timeout(GOODBYE, self.socket.goodbye(&self.outbox)).await;
        }
        // An action under way is decided by api all the same: its effect here is undone below.
        if let Some(underway) = self.underway.take() {
            let applied = underway.await;
            action::settle(&self.node, &mut self.state, applied);
        }
        action::leave_everything(&self.node, &mut self.state).await;
    }
}

async fn finished(underway: &mut Option<Underway>) -> Applied {
    match underway {
        Some(underway) => underway.await,
        None => std::future::pending().await,
    }
}
