//! Runs one socket in one task: reads frames, has their actions decided, writes what others could not.
//!
//! What must hold: at most one action is under way, so a sender's order is kept, and none is begun while more
//! than half of the outbox's bound waits; what waits leaves in one write; an idle socket holds no buffer.

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

/// Between pings of the server.
const PING_INTERVAL: Duration = Duration::from_secs(25);
/// Pings that may go unanswered.
const UNANSWERED_PINGS_MAX: u32 = 2;
/// How long the last of them is waited for: a half-open socket is noticed within 60 s.
const LAST_PONG_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a socket that sends too much is not read, at most.
const READ_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a goodbye may take to be written and answered.
const CLOSE_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a session knows of itself.
pub(crate) struct SessionState {
    /// Its number on this node.
    pub(crate) socket_id: u64,
    /// Who it is.
    pub(crate) caller: Caller,
    /// Which sort of socket it is.
    pub(crate) surface: Surface,
    /// Until when its token counts.
    pub(crate) expires_at: Instant,
    /// What it follows, by which of its frames' asking.
    pub(crate) subscriptions: HashMap<Channel, u64>,
    /// Where its person is a participant through it.
    pub(crate) rooms: HashSet<RoomId>,
    /// Those of them that are of two.
    pub(crate) pair_rooms: HashSet<RoomId>,
    /// The rooms that it follows by belonging to a team, and by which frame's asking.
    pub(crate) team_rooms: HashMap<RoomId, (TeamId, u64)>,
    /// When it last told that its person writes.
    pub(crate) last_typing_at: Option<Instant>,
    /// Whom its person may send signals to.
    signal_permissions: local_actions::SignalPermissions,
    /// Frames read so far: the number names the frame for retries.
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
    /// Nothing is read until then: it has sent more than it may.
    paused_until: Option<Instant>,
    unanswered_pings: u32,
    /// Listed as long as this lives.
    _registered: SocketRegistration,
}

/// Serves a socket until it closes.
pub(crate) async fn run(mut session: Box<Session>) {
    let outbox = session.outbox.clone();
    let Some(socket) = outbox.socket() else { return };
    let reason = session.serve(socket).await;
    // Beside its life, which is long, its end takes no room.
    Box::pin(session.finish(socket, reason)).await;
}

/// When the token expires, on the clock that timers use.
fn token_expiry(identity: &Identity) -> Instant {
    let left = identity.expires_at_ms.saturating_sub(Timestamp::now().unix_ms());
    // A timer can't be set for ever; a year is as good.
    let left = Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(Duration::from_secs(31_536_000));
    Instant::now() + left
}

impl Session {
    /// Runs until the socket is to be closed; `None` where it is gone already.
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
                // Nothing is read of it meanwhile, pongs neither: that it takes bytes must do.
                self.unanswered_pings = if wrote { 0 } else { self.unanswered_pings };
                if self.may_act() {
                    continue;
                }
            }
            let reads = self.may_act();
            let expires = self.state.expires_at;
            let wake = self.paused_until.map_or(next_ping, |until| until.min(next_ping));
            tokio::select! {
                applied = action_result(&mut self.running_action) => {
                    self.running_action = None;
                    action::apply_changes(&self.node, &mut self.state, applied);
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

    /// Leaves what it may not follow any more. While an action is under way nothing else is done in
    /// its name, and what the action has asked for must be known first.
    fn apply_evictions(&mut self) {
        if self.running_action.is_none() {
            for (channel, frame) in self.outbox.take_evictions() {
                action::apply_eviction(&self.node, &mut self.state, &self.outbox, &channel, frame);
            }
        }
    }

    /// Whether the next frame may be handled. A client that reads slowly is answered slowly: with an action begun
    /// while much waits, a legal answer would close the socket as a slow consumer. One that sends too much is read
    /// slowly.
    fn may_act(&self) -> bool {
        self.running_action.is_none() && self.paused_until.is_none() && !self.outbox.defers_actions()
    }

    /// Handles what was read, as far as no action is under way.
    fn handle_frames(&mut self) -> Option<CloseReason> {
        while self.may_act() {
            match self.decoder.next() {
                Ok(None) => return None,
                Ok(Some(incoming)) => {
                    // Whatever it sends shows that it lives.
                    self.unanswered_pings = 0;
                    match incoming {
                        Incoming::Text(text) => self.begin_action(&text),
                        Incoming::Binary(_) => {
                            // The error is due all the same.
                            let _ = self.count_frame();
                            self.outbox.push(envelope::error_frame(None, 400, "Frames must be text."));
                        }
                        Incoming::Ping(payload) => {
                            // A pong is due all the same.
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

    /// Counts a frame. After one that is too many the next is read later.
    fn count_frame(&mut self) -> Result<(), Error> {
        if self.state.caller.is_admin {
            return Ok(());
        }
        self.frame_limit.count(self.node.limits.frames, "frames").map_err(|wait| {
            self.paused_until = Some(Instant::now() + wait.min(READ_PAUSE_MAX));
            Error::rate_limited(wait)
        })
    }

    /// Says goodbye where there is someone to receive it, and leaves everything.
    async fn finish(mut self: Box<Self>, socket: &RawSocket, reason: Option<CloseReason>) {
        if let Some(reason) = reason {
            metrics::counter!(names::CLOSES_TOTAL, "reason" => reason.as_str()).increment(1);
            self.outbox.close(reason);
            self.outbox.push_goodbye(frame::close(reason.code(), &reason.reason_text()));
            // A client that does not read its goodbye is left.
            let _ =
                tokio::time::timeout(CLOSE_HANDSHAKE_TIMEOUT, flush_and_close(socket, &self.outbox)).await;
        }
        socket.shutdown();
        self.unsubscribe_from_all().await;
        self.node.presence.socket_closed(None, self.state.caller.user.clone());
        metrics::gauge!(names::SOCKETS_OPEN).decrement(1.0);
    }

    /// Follows nothing any more. An action under way is decided by api all the same: its effect here is
    /// undone.
    async fn unsubscribe_from_all(&mut self) {
        if let Some(running_action) = self.running_action.take() {
            let applied = running_action.await;
            action::apply_changes(&self.node, &mut self.state, applied);
        }
        action::unsubscribe_from_all(&self.node, &mut self.state).await;
    }
}

/// Writes all that waits and waits for the other end to close.
pub(crate) async fn flush_and_close(socket: &RawSocket, outbox: &Outbox) -> io::Result<()> {
    outbox.flush()?;
    while outbox.is_blocked() {
        socket.ready(false, true).await?;
        outbox.flush()?;
    }
    socket.shutdown_write()?;
    socket.read_until_closed().await
}

async fn action_result(running_action: &mut Option<RunningAction>) -> ActionChanges {
    match running_action {
        Some(running_action) => running_action.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
