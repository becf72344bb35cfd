//! Writes frames to one socket, and queues, up to a limit in bytes, what the socket does not accept yet.
//!
//! A shard's task hands all new frames of a flush to each socket's outbox, which writes them at once, with one system
//! call: nothing is queued, and no other task is woken. Only what the socket does not accept now is queued here, and
//! written by its session.
//!
//! What must hold: frames are written in the order in which they were handed in. Unstored frames (typing, signals,
//! counts, positions) are dropped while half of the limit is in use. A stored event is never dropped alone: above the
//! limit the whole socket is closed as a slow consumer, and its client can resume from the log. Frames of a resume do
//! not count against the limit: otherwise a client that missed more than the limit could never resume. Nor does the
//! answer of an action, whose length does not depend on how fast the client reads. The next action begins only once
//! little is queued, so at most one such answer is queued.

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

/// Writes the frames of one socket.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Set once the socket is upgraded.
    socket: OnceLock<RawSocket>,
    state: Mutex<OutboxState>,
    /// Wakes the socket's session.
    wake: Notify,
    limit_bytes: usize,
    format: PushFormat,
}

#[derive(Debug, Default)]
struct OutboxState {
    frames: VecDeque<Bytes>,
    /// Whether the beginning of the first frame is written already.
    is_first_partial: bool,
    /// Whether the socket accepts no more bytes now: its session waits until it does.
    is_blocked: bool,
    /// Whether bytes were written since the session's last flush.
    has_progressed: bool,
    /// Bytes of `frames`, without the close frame.
    queued_bytes: usize,
    /// Extra bytes allowed while a resume or an answer is being written; shrinks as bytes are written.
    extra_bytes: usize,
    close_reason: Option<CloseReason>,
    /// Channels that the socket may not follow any more, each with the number of the frame that asked to follow it.
    evictions: Vec<(Channel, u64)>,
}

impl OutboxState {
    /// Whether frames may be written at once: nothing is queued, and the socket is not closing.
    fn is_idle(&self) -> bool {
        self.frames.is_empty() && !self.is_blocked && self.close_reason.is_none()
    }

    /// Whether the socket's next action has to wait until more is written.
    fn defers_actions(&self, limit: usize) -> bool {
        self.extra_bytes > 0 || self.queued_bytes > limit / 2
    }

    /// Queues a frame. False if the socket is closing already, or is closed because this frame exceeds the limit.
    fn queue(&mut self, frame: Bytes, limit: usize) -> bool {
        if self.close_reason.is_some() {
            return false;
        }
        self.queued_bytes += frame.len();
        if self.queued_bytes > limit + self.extra_bytes {
            self.close_reason = Some(CloseReason::SlowConsumer);
            // The close frame must follow a whole frame: a frame that is written in part stays, which may be this one.
            self.frames.push_back(frame);
            self.frames.truncate(usize::from(self.is_first_partial));
            self.queued_bytes = self.frames.iter().map(Bytes::len).sum();
            return false;
        }
        self.frames.push_back(frame);
        true
    }

    /// Writes queued frames, as far as the socket accepts them now.
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
        // Frees the queue's memory: an idle socket holds none.
        self.frames = VecDeque::new();
        Ok(())
    }

    /// Removes bytes that were written from the front of the queue.
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
    /// Creates an empty outbox that queues at most `limit` bytes.
    pub(crate) fn new(limit: usize, form: PushFormat) -> Self {
        Self {
            socket: OnceLock::new(),
            state: Mutex::default(),
            wake: Notify::new(),
            limit_bytes: limit,
            format: form,
        }
    }

    /// Sets the socket, once it is upgraded. Frames that were queued before are written by the session.
    pub(crate) fn attach_socket(&self, socket: RawSocket) {
        self.socket.get_or_init(|| socket);
    }

    /// The socket, once it is upgraded.
    pub(crate) fn socket(&self) -> Option<&RawSocket> {
        self.socket.get()
    }

    /// The format in which events are pushed to the socket.
    pub(crate) const fn format(&self) -> PushFormat {
        self.format
    }

    fn state(&self) -> MutexGuard<'_, OutboxState> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame, and wakes the session to write it. False if the socket is closing already, or is closed because
    /// this frame exceeds the limit.
    pub(crate) fn push(&self, frame: Bytes) -> bool {
        let accepted = self.state().queue(frame, self.limit_bytes);
        self.wake.notify_one();
        accepted
    }

    /// Writes frames at once, and queues what the socket does not accept now, for its session. False if the socket is
    /// closing already, or is closed because these frames exceed the limit.
    pub(crate) fn deliver(&self, frames: &[&Bytes]) -> bool {
        let Some(socket) = self.socket.get() else {
            return frames.iter().all(|frame| self.push((*frame).clone()));
        };
        let mut state = self.state();
        let deferred = state.defers_actions(self.limit_bytes);
        // An error counts as nothing written: the write below meets it again.
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

    /// Writes queued frames, as far as the socket accepts them. Returns whether any bytes were written since the last
    /// flush. Only the session calls this.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(crate) fn flush(&self) -> io::Result<bool> {
        let Some(socket) = self.socket.get() else { return Ok(false) };
        let mut state = self.state();
        state.write(socket)?;
        Ok(std::mem::take(&mut state.has_progressed))
    }

    /// Whether frames are queued because the socket does not accept them now.
    pub(crate) fn is_blocked(&self) -> bool {
        self.state().is_blocked
    }

    /// Queues a frame of a resume, which does not count against the limit: a resume repeats no more than a ring holds,
    /// and shares the ring's memory.
    pub(crate) fn push_resumed(&self, frame: Bytes) -> bool {
        self.push_beyond_limit(frame)
    }

    /// Queues the answer of an action that api decided, which does not count against the limit: api bounds its length,
    /// by a number that may be higher than this limit.
    pub(crate) fn push_answer(&self, frame: Bytes) -> bool {
        self.push_beyond_limit(frame)
    }

    /// Queues a frame that does not count against the limit.
    fn push_beyond_limit(&self, frame: Bytes) -> bool {
        let mut state = self.state();
        state.extra_bytes += frame.len();
        let accepted = state.queue(frame, self.limit_bytes);
        drop(state);
        self.wake.notify_one();
        accepted
    }

    /// Queues the close frame. Nothing may be queued after it.
    pub(crate) fn push_goodbye(&self, frame: Bytes) {
        self.state().frames.push_back(frame);
    }

    /// Whether the next action has to wait, because a resume or an answer is being written, or more than half of the
    /// limit is in use.
    pub(crate) fn defers_actions(&self) -> bool {
        self.state().defers_actions(self.limit_bytes)
    }

    /// Writes a frame that is not stored. Drops it if more than half of the limit would be in use, or if the socket is
    /// a match socket, which knows no such frames.
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

    /// Tells the session that the socket may not follow a channel any more, as far as the frame with this number asked
    /// to follow it.
    pub(crate) fn evict(&self, channel: Channel, frame_number: u64) {
        self.state().evictions.push((channel, frame_number));
        self.wake.notify_one();
    }

    /// Takes the evictions since the last call.
    pub(crate) fn take_evictions(&self) -> Vec<(Channel, u64)> {
        std::mem::take(&mut self.state().evictions)
    }

    /// Closes the socket once its queued frames are written. Only the first reason counts.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.state().close_reason.get_or_insert(reason);
        self.wake.notify_one();
    }

    /// Closes the socket because it lacks, or may lack, an event older than others that it was pushed. A native socket
    /// is pushed a position first, and a resume from there brings the event.
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

    /// Why the socket is to be closed, if it is to be.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.state().close_reason
    }

    /// Takes the queued frames.
    #[cfg(test)]
    pub(crate) fn take_frames(&self) -> Vec<Bytes> {
        let mut state = self.state();
        (state.queued_bytes, state.extra_bytes) = (0, 0);
        std::mem::take(&mut state.frames).into()
    }

    /// Resolves when the session has something to do: frames to write, evictions to apply, or a socket to close.
    pub(crate) async fn changed(&self) {
        self.wake.notified().await;
    }
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
