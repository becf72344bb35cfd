//! Writes frames to one socket, and queues, within a bound of bytes, what the socket does not take yet.
//!
//! A shard's task hands each of its sockets all that it has received, which is written at once, by one call, from
//! where it lies: nothing is queued, nobody else is woken for a delivery. Only what a socket does not take
//! now waits here, for its session.
//!
//! What must hold: frames leave in the order they came. What is never stored (typing, signals,
//! counts, positions) is dropped from half of the bound on; a stored event is never dropped alone:
//! above the bound the whole socket is closed as a slow consumer, and what it missed is in the log.
//! What it resumes with does not count: else one that missed more than the bound would never get it. Neither
//! does the answer of an action, since the client's reading is not what makes that long; the next action begins
//! once little waits, so at most one such answer does.

pub(crate) mod close;
pub(crate) mod registry;
mod socket;

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::{Buf as _, Bytes};
use protocol::subject::Channel;
use service::metric_names as names;
use tokio::sync::Notify;

use crate::encode::PushFormat;
use close::CloseReason;
pub(crate) use socket::RawSocket;

/// The frames that wait for one socket.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// There from its upgrade on.
    socket: OnceLock<RawSocket>,
    state: Mutex<OutboxState>,
    wake: Notify,
    limit_bytes: usize,
    format: PushFormat,
}

#[derive(Debug, Default)]
struct OutboxState {
    frames: VecDeque<Bytes>,
    /// Whether the first is written in part.
    is_first_partial: bool,
    /// The socket takes no more now: its session waits until it does.
    is_blocked: bool,
    /// Something was written since the session asked last.
    has_progressed: bool,
    /// Bytes that wait.
    queued_bytes: usize,
    /// Extra bytes allowed while a resume or an answer is being written; shrinks as bytes are written.
    extra_bytes: usize,
    close_reason: Option<CloseReason>,
    /// Channels that the socket may not follow any more, with the frame that had asked for each.
    evictions: Vec<(Channel, u64)>,
}

impl OutboxState {
    /// Nothing waits, and more may come.
    fn is_idle(&self) -> bool {
        self.frames.is_empty() && !self.is_blocked && self.close_reason.is_none()
    }

    /// Whether the socket's next action has to wait until more is written.
    fn defers_actions(&self, limit: usize) -> bool {
        self.extra_bytes > 0 || self.queued_bytes > limit / 2
    }

    /// Hands a frame in. False where the socket is closing, or is closed by this.
    fn queue(&mut self, frame: Bytes, limit: usize) -> bool {
        if self.close_reason.is_some() {
            return false;
        }
        self.queued_bytes += frame.len();
        if self.queued_bytes > limit + self.extra_bytes {
            self.close_reason = Some(CloseReason::SlowConsumer);
            // A goodbye can only follow a whole frame: this one may be the rest of it.
            self.frames.push_back(frame);
            self.frames.truncate(usize::from(self.is_first_partial));
            self.queued_bytes = self.frames.iter().map(Bytes::len).sum();
            return false;
        }
        self.frames.push_back(frame);
        true
    }

    /// Writes what waits, as far as the socket takes it now.
    fn write(&mut self, socket: &RawSocket) -> io::Result<()> {
        while !self.frames.is_empty() {
            let written = match socket.write(self.frames.iter()) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_blocked = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            self.has_progressed = true;
            self.queued_bytes = self.queued_bytes.saturating_sub(written);
            self.extra_bytes = self.extra_bytes.saturating_sub(written);
            self.advance(written);
        }
        self.is_blocked = false;
        // An idle socket keeps no places for frames.
        self.frames = VecDeque::new();
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.frames.front_mut() {
            if written < first.len() {
                first.advance(written);
                self.is_first_partial = self.is_first_partial || written > 0;
                return;
            }
            written -= first.len();
            self.is_first_partial = false;
            self.frames.pop_front();
        }
    }
}

impl Outbox {
    /// An empty one that holds at most `limit` bytes.
    pub(crate) fn new(limit: usize, form: PushFormat) -> Self {
        Self {
            socket: OnceLock::new(),
            state: Mutex::default(),
            wake: Notify::new(),
            limit_bytes: limit,
            format: form,
        }
    }

    /// From now on what is handed in is written to this socket.
    pub(crate) fn attach_socket(&self, socket: RawSocket) {
        self.socket.get_or_init(|| socket);
    }

    /// Its socket, once that is upgraded.
    pub(crate) fn socket(&self) -> Option<&RawSocket> {
        self.socket.get()
    }

    /// In which form its socket is pushed what happens.
    pub(crate) const fn format(&self) -> PushFormat {
        self.format
    }

    fn state(&self) -> MutexGuard<'_, OutboxState> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a frame in, to be written soon. Returns false where the socket is closing, or is closed by
    /// this.
    pub(crate) fn push(&self, frame: Bytes) -> bool {
        let accepted = self.state().queue(frame, self.limit_bytes);
        self.wake.notify_one();
        accepted
    }

    /// Hands in frames, which leave at once. What the socket does not take now is its session's to write.
    /// Returns false where the socket is closing, or is closed by this.
    pub(crate) fn deliver(&self, frames: &[&Bytes]) -> bool {
        let Some(socket) = self.socket.get() else {
            return frames.iter().all(|frame| self.push((*frame).clone()));
        };
        let mut state = self.state();
        let deferred = state.defers_actions(self.limit_bytes);
        // An error shows again below.
        let mut written = if state.is_idle() { socket.write(frames.iter().copied()).unwrap_or(0) } else { 0 };
        let mut accepted = true;
        for frame in frames {
            if written >= frame.len() {
                written -= frame.len();
                continue;
            }
            let mut rest = (*frame).clone();
            rest.advance(written);
            state.is_first_partial |= written > 0;
            written = 0;
            accepted = accepted && state.queue(rest, self.limit_bytes);
        }
        if accepted && (state.frames.is_empty() || state.is_blocked) {
            return true;
        }
        let outcome = if accepted { state.write(socket) } else { Ok(()) };
        let may_act_again = deferred && !state.defers_actions(self.limit_bytes);
        if !accepted || outcome.is_err() || state.is_blocked || may_act_again {
            drop(state);
            self.wake.notify_one();
        }
        accepted
    }

    /// Writes what waits, for the session. Answers whether anything was written since it asked last.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn flush(&self) -> io::Result<bool> {
        let Some(socket) = self.socket.get() else { return Ok(false) };
        let mut state = self.state();
        state.write(socket)?;
        Ok(std::mem::take(&mut state.has_progressed))
    }

    /// Whether something waits that the socket does not take now.
    pub(crate) fn is_blocked(&self) -> bool {
        self.state().is_blocked
    }

    /// Hands in a frame that a resume repeats: no more than a ring holds, and its bytes are the ring's.
    pub(crate) fn push_resumed(&self, frame: Bytes) -> bool {
        self.push_beyond_limit(frame)
    }

    /// Hands in the answer of an action that api decided: up to its bound for socket answers, which may be more
    /// than this outbox has.
    pub(crate) fn push_answer(&self, frame: Bytes) -> bool {
        self.push_beyond_limit(frame)
    }

    /// Hands in a frame whose bytes do not count against the bound.
    fn push_beyond_limit(&self, frame: Bytes) -> bool {
        let mut state = self.state();
        state.extra_bytes += frame.len();
        let accepted = state.queue(frame, self.limit_bytes);
        drop(state);
        self.wake.notify_one();
        accepted
    }

    /// Hands in the goodbye: nothing follows it.
    pub(crate) fn push_goodbye(&self, frame: Bytes) {
        self.state().frames.push_back(frame);
    }

    /// Whether the next action has to wait: a resume or an answer is being written, or more than half of the
    /// bound waits.
    pub(crate) fn defers_actions(&self) -> bool {
        self.state().defers_actions(self.limit_bytes)
    }

    /// Hands in a frame of what is never stored: it is dropped where the client reads slowly, or knows no
    /// such frames.
    pub(crate) fn push_unstored(&self, frame: &Bytes) {
        if self.format == PushFormat::Match {
            return;
        }
        let is_slow = self.state().queued_bytes + frame.len() > self.limit_bytes / 2;
        if is_slow {
            metrics::counter!(names::DROPPED_FRAMES_TOTAL, "class" => "slow").increment(1);
        } else {
            self.deliver(&[frame]);
        }
    }

    /// The socket may not follow a channel any more, if it still does by that frame's asking.
    pub(crate) fn evict(&self, channel: Channel, frame_number: u64) {
        self.state().evictions.push((channel, frame_number));
        self.wake.notify_one();
    }

    /// The channels that the socket may not follow any more.
    pub(crate) fn take_evictions(&self) -> Vec<(Channel, u64)> {
        std::mem::take(&mut self.state().evictions)
    }

    /// Closes the socket once what waits is written. The first reason counts.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.state().close_reason.get_or_insert(reason);
        self.wake.notify_one();
    }

    /// Closes the socket, since it lacks an event that lies before others it has. A native one is told a
    /// position first from which a resume brings that event.
    pub(crate) fn close_for_resume(&self, position: &Bytes) {
        let mut state = self.state();
        if state.close_reason.is_none() {
            if self.format != PushFormat::Match {
                state.queued_bytes += position.len();
                state.extra_bytes += position.len();
                state.frames.push_back(position.clone());
            }
            state.close_reason = Some(CloseReason::Heal);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Why the socket is to be closed, if it is.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.state().close_reason
    }

    /// What waits, taken away.
    #[cfg(test)]
    pub(crate) fn take_frames(&self) -> Vec<Bytes> {
        let mut state = self.state();
        (state.queued_bytes, state.extra_bytes) = (0, 0);
        std::mem::take(&mut state.frames).into()
    }

    /// Resolves when something was handed in since the last time, or the socket is to be closed.
    pub(crate) async fn changed(&self) {
        self.wake.notified().await;
    }
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
