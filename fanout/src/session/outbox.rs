//! What waits to be written to one socket: bounded in bytes.
//!
//! What must hold: frames leave in the order they came. What is never stored (typing, signals,
//! counts, positions) is dropped from half of the bound on; a stored event is never dropped alone:
//! above the bound the whole socket is closed as a slow consumer, and what it missed is in the log.
//! What it resumes with does not count: else one that missed more than the bound would never get it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use shared::{metric_names as names, subject::Channel};
use tokio::sync::Notify;

use super::close::CloseReason;
use crate::render::Form;

/// The frames that wait for one socket.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    wake: Notify,
    limit: usize,
    form: Form,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    /// Bytes handed in and not yet written.
    bytes: usize,
    /// Of the bound, what is lent for a resume: it shrinks as bytes are written.
    lent: usize,
    closing: Option<CloseReason>,
    /// Channels that the socket may not follow any more, with the frame that had asked for each.
    evicted: Vec<(Channel, u64)>,
}

impl Outbox {
    /// An empty one that holds at most `limit` bytes.
    pub(crate) fn new(limit: usize, form: Form) -> Self {
        Self { state: Mutex::default(), wake: Notify::new(), limit, form }
    }

    /// In which form its socket is pushed what happens.
    pub(crate) const fn form(&self) -> Form {
        self.form
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a frame in. Returns false where the socket is closing, or is closed by this.
    pub(crate) fn push(&self, frame: Bytes) -> bool {
        let mut state = self.state();
        if state.closing.is_some() {
            return false;
        }
        state.bytes += frame.len();
        if state.bytes > self.limit + state.lent {
            state.closing = Some(CloseReason::SlowConsumer);
            state.frames = VecDeque::new();
        } else {
            state.frames.push_back(frame);
        }
        let accepted = state.closing.is_none();
        drop(state);
        self.wake.notify_one();
        accepted
    }

    /// Hands in a frame that a resume repeats: no more than a ring holds, and its bytes are the ring's.
    pub(crate) fn push_resumed(&self, frame: Bytes) -> bool {
        self.state().lent += frame.len();
        self.push(frame)
    }

    /// Whether what it resumed with is on its way still: the next action waits for that.
    pub(crate) fn is_resuming(&self) -> bool {
        self.state().lent > 0
    }

    /// Hands in a frame of what is never stored: it is dropped where the client reads slowly, or knows no
    /// such frames.
    pub(crate) fn push_unstored(&self, frame: Bytes) {
        if self.form != Form::Native {
            return;
        }
        let is_slow = self.state().bytes + frame.len() > self.limit / 2;
        if is_slow {
            metrics::counter!(names::DROPPED_FRAMES_TOTAL, "class" => "slow").increment(1);
        } else {
            self.push(frame);
        }
    }

    /// The socket may not follow a channel any more, if it still does by that frame's asking.
    pub(crate) fn evict(&self, channel: Channel, frame: u64) {
        self.state().evicted.push((channel, frame));
        self.wake.notify_one();
    }

    /// The channels that the socket may not follow any more.
    pub(crate) fn evictions(&self) -> Vec<(Channel, u64)> {
        std::mem::take(&mut self.state().evicted)
    }

    /// Closes the socket once what waits is written. The first reason counts.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.state().closing.get_or_insert(reason);
        self.wake.notify_one();
    }

    /// Why the socket is to be closed, if it is.
    pub(crate) fn closing(&self) -> Option<CloseReason> {
        self.state().closing
    }

    /// Moves what waits to `pending`.
    pub(crate) fn take(&self, pending: &mut VecDeque<Bytes>) {
        let mut state = self.state();
        if pending.is_empty() {
            // An idle socket holds no queue.
            *pending = std::mem::take(&mut state.frames);
        } else {
            pending.append(&mut state.frames);
        }
    }

    /// Frees the room of what was written.
    pub(crate) fn written(&self, bytes: usize) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(bytes);
        state.lent = state.lent.saturating_sub(bytes);
    }

    /// Resolves when something was handed in since the last time, or the socket is to be closed.
    pub(crate) async fn changed(&self) {
        self.wake.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_its_bound_it_closes_and_keeps_nothing() {
        let outbox = Outbox::new(10, Form::Native);
        assert!(outbox.push(Bytes::from_static(b"123456")));
        outbox.written(6);
        assert!(outbox.push(Bytes::from_static(b"1234567890")));
        assert!(!outbox.push(Bytes::from_static(b"1")));
        assert_eq!(outbox.closing(), Some(CloseReason::SlowConsumer));
        let mut pending = VecDeque::new();
        outbox.take(&mut pending);
        assert!(pending.is_empty());
    }

    #[test]
    fn what_is_not_stored_is_dropped_first() {
        let outbox = Outbox::new(10, Form::Native);
        outbox.push_unstored(Bytes::from_static(b"12345"));
        outbox.push_unstored(Bytes::from_static(b"6"));
        assert!(outbox.push(Bytes::from_static(b"67890")), "there is room for what is stored");
        let mut pending = VecDeque::new();
        outbox.take(&mut pending);
        assert_eq!(pending, [&b"12345"[..], &b"67890"[..]]);
    }

    #[test]
    fn a_resume_is_beyond_the_bound_and_counts_once_written() {
        let outbox = Outbox::new(4, Form::Native);
        for frame in [&b"12345"[..], b"67890"] {
            assert!(outbox.push_resumed(Bytes::copy_from_slice(frame)));
        }
        assert!(outbox.push(Bytes::from_static(b"1234")) && outbox.is_resuming());
        outbox.written(10);
        assert!(!outbox.is_resuming());
        assert!(!outbox.push(Bytes::from_static(b"5")), "four wait");
    }

    #[test]
    fn the_first_reason_counts() {
        let outbox = Outbox::new(10, Form::Native);
        outbox.close(CloseReason::Heal);
        outbox.close(CloseReason::Goodbye);
        assert_eq!(outbox.closing(), Some(CloseReason::Heal));
        assert!(!outbox.push(Bytes::new()));
    }
}
