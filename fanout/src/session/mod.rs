//! Runs one socket in one task: reads frames, begins their actions, and writes the frames that its outbox has queued.
//!
//! What must hold: at most one action is under way, so the order of a sender's actions is kept, and none is begun while
//! more than half of the outbox's limit is in use. Queued frames are written together. An idle socket holds no buffer.

pub(crate) mod action;
#[cfg(any(test, feature = "bench"))]
pub(crate) mod bench;
mod envelope;
#[cfg(test)]
mod eviction_tests;
mod frame_scope;
mod local_actions;
mod pending;
mod subscriptions;

#[cfg(fuzzing)]
pub(crate) use envelope::check_any_text;
pub(crate) use pending::{OPENING_TIMEOUT, PendingSession};

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
    time::Duration,
};

use protocol::{
    caller::Caller,
    clock::Timestamp,
    error::Error,
    id::{RoomId, TeamId},
    rpc::Surface,
    subject::Channel,
};
use service::{metric_names as names, rate::SingleRateLimit, token::Identity};
use tokio::time::{Instant, sleep_until};

use crate::outbox::registry::SocketRegistration;
use crate::{
    encode::frame::{self, Decoder, Incoming},
    node::Node,
    outbox::{Outbox, RawSocket, close::CloseReason},
};
use action::{ActionChanges, RunningAction};

/// Interval between pings of the server.
const PING_INTERVAL: Duration = Duration::from_secs(25);
/// Number of unanswered pings after which a socket is closed.
const UNANSWERED_PINGS_MAX: u32 = 2;
/// How long the answer to the last of them may take. A half-open socket is closed within 60 s.
const LAST_PONG_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time for which a socket that exceeds its rate of frames is not read.
const READ_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long the close frame may take to be written and answered.
const CLOSE_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The state of a session that actions read and change.
pub(crate) struct SessionState {
    /// The socket's number on this node.
    pub(crate) socket_id: u64,
    /// The person on the socket, with their rights by token.
    pub(crate) caller: Caller,
    /// The sort of the socket.
    pub(crate) surface: Surface,
    /// When the socket is closed: its token expires or, for a match socket, its maximum age is reached.
    pub(crate) expires_at: Instant,
    /// The channels that the socket follows, each with the number of the frame that asked for it.
    pub(crate) subscriptions: HashMap<Channel, u64>,
    /// The rooms in which the person is a participant through this socket.
    pub(crate) rooms: HashSet<RoomId>,
    /// The ones of `rooms` that belong to two people.
    pub(crate) pair_rooms: HashSet<RoomId>,
    /// The rooms that the socket follows as a member of a team, each with the number of the frame that asked for it.
    pub(crate) team_rooms: HashMap<RoomId, (TeamId, u64)>,
    /// When the socket last published a `typing` event.
    pub(crate) last_typing_at: Option<Instant>,
    /// The people whom this person may signal.
    signal_permissions: local_actions::SignalPermissions,
    /// Number of text frames read so far: the number of the current frame, and part of its key at api.
    pub(crate) frames_read: u64,
}

/// One socket's session.
pub(crate) struct Session {
    node: Arc<Node>,
    outbox: Arc<Outbox>,
    decoder: Decoder,
    state: SessionState,
    running_action: Option<RunningAction>,
    frame_limit: SingleRateLimit,
    /// Until when nothing is read, because the socket has exceeded its rate of frames.
    paused_until: Option<Instant>,
    unanswered_pings: u32,
    /// Keeps the socket registered.
    _registration: SocketRegistration,
}

/// Serves a socket until it closes.
pub(crate) async fn run(mut session: Box<Session>) {
    let outbox = session.outbox.clone();
    let Some(socket) = outbox.socket() else { return };
    let reason = session.serve(socket).await;
    // Boxed, so that the task of an open socket takes no memory for its end.
    Box::pin(session.finish(socket, reason)).await;
}

/// When the token expires, on the clock that timers use, but at most a year from now.
fn token_expiry(identity: &Identity) -> Instant {
    let remaining_ms = identity.expires_at_ms.saturating_sub(Timestamp::now().unix_ms());
    let remaining = Duration::from_millis(u64::try_from(remaining_ms).unwrap_or(0));
    // A later time might overflow the timer.
    Instant::now() + remaining.min(Duration::from_secs(31_536_000))
}

impl Session {
    /// Serves the socket until it is to be closed. `None` if the connection is broken or closed already.
    async fn serve(&mut self, socket: &RawSocket) -> Option<CloseReason> {
        let mut next_ping = Instant::now() + PING_INTERVAL;
        loop {
            self.apply_evictions();
            self.paused_until = self.paused_until.filter(|until| *until > Instant::now());
            if let Some(reason) = self.handle_frames() {
                return Some(reason);
            }
            let deferred = self.outbox.defers_actions();
            let Ok(wrote) = self.outbox.flush() else { return None };
            if let Some(reason) = self.outbox.close_reason() {
                return Some(reason);
            }
            if deferred {
                // While actions are deferred nothing is read, not even pongs, so bytes that the client accepts count as
                // a sign of life.
                self.unanswered_pings = if wrote { 0 } else { self.unanswered_pings };
                if self.may_act() {
                    continue;
                }
            }
            let reads = self.may_act();
            let expires = self.state.expires_at;
            let wake = self.paused_until.map_or(next_ping, |until| until.min(next_ping));
            tokio::select! {
                changes = action_result(&mut self.running_action) => {
                    self.running_action = None;
                    action::apply_changes(&self.node, &mut self.state, changes);
                }
                () = self.outbox.changed() => {}
                ready = socket.ready(reads, self.outbox.is_blocked()) => match ready {
                    Ok(()) if reads => match socket.read(&mut self.decoder) {
                        Ok(true) => {}
                        Ok(false) | Err(_) => return None,
                    },
                    Ok(()) => {}
                    Err(_) => return None,
                },
                () = sleep_until(wake.min(expires)) => {
                    if Instant::now() >= expires {
                        return Some(match self.state.surface {
                            Surface::Native => CloseReason::TokenExpired,
                            Surface::Match | Surface::MatchAdmin => CloseReason::MaxAge,
                        });
                    }
                    if Instant::now() < next_ping {
                        continue;
                    }
                    if self.unanswered_pings == UNANSWERED_PINGS_MAX {
                        return Some(CloseReason::Dead);
                    }
                    self.unanswered_pings += 1;
                    next_ping += if self.unanswered_pings == UNANSWERED_PINGS_MAX { LAST_PONG_TIMEOUT } else { PING_INTERVAL };
                    self.outbox.push(frame::ping());
                }
            }
        }
    }

    /// Applies evictions, unless an action is under way: its result must be known first, since it may be a subscription
    /// that the eviction ends.
    fn apply_evictions(&mut self) {
        if self.running_action.is_none() {
            for (channel, frame) in self.outbox.take_evictions() {
                action::apply_eviction(&self.node, &mut self.state, &self.outbox, &channel, frame);
            }
        }
    }

    /// Whether the next frame may be handled. False while an action is under way, while the socket is paused because it
    /// has exceeded its rate, and while much is queued: then further answers could close a socket that reads slowly.
    fn may_act(&self) -> bool {
        self.running_action.is_none() && self.paused_until.is_none() && !self.outbox.defers_actions()
    }

    /// Handles frames that were read, until an action is under way. Returns why the socket is to be closed, if it is.
    fn handle_frames(&mut self) -> Option<CloseReason> {
        while self.may_act() {
            match self.decoder.next() {
                Ok(None) => return None,
                Ok(Some(incoming)) => {
                    // Any frame counts as an answer to pings.
                    self.unanswered_pings = 0;
                    match incoming {
                        Incoming::Text(text) => self.begin_action(&text),
                        Incoming::Binary(_) => {
                            // A frame above the rate is answered too.
                            let _ = self.count_frame();
                            self.outbox.push(envelope::error_frame(None, 400, "Frames must be text."));
                        }
                        Incoming::Ping(payload) => {
                            // A ping above the rate is answered too.
                            let _ = self.count_frame();
                            self.outbox.push(frame::pong(&payload));
                        }
                        Incoming::Pong => {}
                        Incoming::Close(_) => return Some(CloseReason::Goodbye),
                    }
                }
                Err(violation) => return Some(CloseReason::Violation(violation)),
            }
        }
        None
    }

    fn begin_action(&mut self, text: &str) {
        self.state.frames_read += 1;
        metrics::counter!(names::FRAMES_RECEIVED_TOTAL).increment(1);
        let counted = self.count_frame();
        self.running_action = action::begin(&self.node, &self.state, &self.outbox, text, counted);
    }

    /// Counts a frame. If it exceeds the socket's rate, reading pauses for [`READ_PAUSE_MAX`] at most.
    ///
    /// # Errors
    /// 429 if the frame exceeds the rate.
    fn count_frame(&mut self) -> Result<(), Error> {
        if self.state.caller.is_admin {
            return Ok(());
        }
        self.frame_limit.count(self.node.limits.frames, "frames").map_err(|wait| {
            self.paused_until = Some(Instant::now() + wait.min(READ_PAUSE_MAX));
            Error::rate_limited(wait)
        })
    }

    /// Sends the close frame, if there is a reason to close, and ends everything that the session has begun.
    async fn finish(mut self: Box<Self>, socket: &RawSocket, reason: Option<CloseReason>) {
        if let Some(reason) = reason {
            metrics::counter!(names::CLOSES_TOTAL, "reason" => reason.as_str()).increment(1);
            self.outbox.close(reason);
            self.outbox.push_goodbye(frame::close(reason.code(), &reason.reason_text()));
            // The connection is closed anyway if the client does not answer in time.
            let _ =
                tokio::time::timeout(CLOSE_HANDSHAKE_TIMEOUT, flush_and_close(socket, &self.outbox)).await;
        }
        socket.shutdown();
        self.unsubscribe_from_all().await;
        self.node.presence.socket_closed(None, self.state.caller.user.clone());
        metrics::gauge!(names::SOCKETS_OPEN).decrement(1.0);
    }

    /// Ends all subscriptions. An action under way is awaited first, so that its effect on the socket is undone too.
    async fn unsubscribe_from_all(&mut self) {
        if let Some(running_action) = self.running_action.take() {
            let changes = running_action.await;
            action::apply_changes(&self.node, &mut self.state, changes);
        }
        action::unsubscribe_from_all(&self.node, &mut self.state).await;
    }
}

/// Writes all queued frames, closes the connection for writing, and waits until the client closes its end.
///
/// # Errors
/// If the connection is broken.
pub(crate) async fn flush_and_close(socket: &RawSocket, outbox: &Outbox) -> io::Result<()> {
    outbox.flush()?;
    while outbox.is_blocked() {
        socket.ready(false, true).await?;
        outbox.flush()?;
    }
    socket.shutdown_write()?;
    socket.read_until_closed().await
}

/// Resolves when the action under way is finished; never if there is none.
async fn action_result(running_action: &mut Option<RunningAction>) -> ActionChanges {
    match running_action {
        Some(running_action) => running_action.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
