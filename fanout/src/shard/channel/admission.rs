//! Admits subscribers to an open channel: at once, or after the end of the stream or older events are read.
//!
//! A subscriber is admitted at once where the ring has all that it lacks. Where it claims to have later events than
//! this node, the stream's end is asked for first; where the ring lacks something, the log is read:
//!
//! ```text
//! request --> admitted (recovered, or new)
//!    |  \----> waiting for a replay --> admitted (recovered, or not)
//!    |             ^           |  ^
//!    |             |           +--+ the ring has moved on: another read
//!    +--> waiting for the stream's end --> admitted (not recovered: it has another log)
//! ```

use protocol::subject::Channel;
use service::metric_names as names;

use super::ChannelState;
use crate::shard::{
    replay::{FinishedReplay, ReplayOutcome, ReplayRequest},
    subscribe::{Admission, SubscribeRequest, SubscriptionStart},
    subscribers::Subscriber,
};

/// What has to be done before a subscriber can be admitted.
pub(in crate::shard) enum AdmissionStep {
    /// Nothing: it is decided.
    Decided,
    /// Ask for the end of the stream: the subscriber claims to have later events than this node.
    AskStreamEnd(SubscribeRequest),
    /// Read the log: the subscriber waits for older events than the ring has.
    Replay,
}

impl ChannelState {
    /// Admits a subscriber: its answer, the events that it missed, then each event as it arrives. `is_recovered` is
    /// false if the events that it missed can't be had.
    pub(crate) fn admit(&mut self, request: SubscribeRequest, is_recovered: bool) {
        self.flush();
        // Without a grant only events from now on can end the right.
        let as_of = request.grant.map_or(self.last_seq, |grant| grant.as_of);
        if self.access.is_revoked(&request.caller, as_of) {
            // The session may be gone: then the answer is dropped.
            let _ = request.admitted.send(Admission::AccessEnded);
            return;
        }
        if let Some(grant) = request.grant {
            self.access.note_grant(grant.public, grant.as_of);
            self.is_pair = grant.pair;
        }
        let since = request.since.filter(|_| is_recovered);
        let subscriber = Subscriber {
            outbox: request.outbox,
            frame_number: request.frame_number,
            caller: request.caller,
            granted_as_of: as_of,
            // A client may be ahead of this node: events that it has already are not pushed again.
            after_seq: since.unwrap_or(self.last_seq),
        };
        self.idle_since = None;
        if let Some(answer) = request.answer {
            let start = SubscriptionStart {
                shard_index: self.shard,
                epoch: self.epoch,
                after_seq: subscriber.after_seq,
                is_recovered,
                participants_json: matches!(self.channel, Channel::Room(_))
                    .then(|| self.presence.participants_json()),
            };
            let mut is_open = subscriber.outbox.push_answer(answer(&start));
            for frame in since.into_iter().flat_map(|since| self.ring.after(since)) {
                is_open = is_open && subscriber.outbox.push_resumed(frame.clone());
            }
            let outcome = match (request.since, is_recovered) {
                (None, _) => "new",
                (Some(_), true) => "recovered",
                (Some(_), false) => "lost",
            };
            metrics::counter!(names::RESUMES_TOTAL, "outcome" => outcome).increment(1);
            if is_open {
                self.subscribers.add(request.socket_id, subscriber);
            }
        } else {
            self.subscribers.add_access_watcher(request.socket_id, subscriber);
        }
        let _ = request.admitted.send(Admission::Admitted);
    }

    /// Admits a subscriber if everything that it needs is known.
    pub(in crate::shard) fn admit_or_ask_stream_end(&mut self, request: SubscribeRequest) -> AdmissionStep {
        match request.since {
            None => {
                self.admit(request, true);
                AdmissionStep::Decided
            }
            Some(since) if since <= self.last_seq => self.admit_or_replay(request),
            Some(_) => {
                self.restart_idle_timer();
                AdmissionStep::AskStreamEnd(request)
            }
        }
    }

    /// Admits a subscriber once the end of the stream is known: if it claims to have later events, it has another log.
    pub(in crate::shard) fn admit_at_stream_end(
        &mut self,
        request: SubscribeRequest,
        stream_end: u64,
    ) -> AdmissionStep {
        match request.since {
            None => self.admit(request, true),
            Some(since) if since > stream_end => self.admit(request, false),
            Some(_) => return self.admit_or_replay(request),
        }
        AdmissionStep::Decided
    }

    /// Admits a subscriber whose `since` is of this log, if its epoch is.
    fn admit_or_replay(&mut self, request: SubscribeRequest) -> AdmissionStep {
        let is_same_epoch = request.epoch.is_none_or(|epoch| epoch == self.epoch);
        let complete_up_to = request.complete_up_to();
        if !is_same_epoch {
            self.admit(request, false);
        } else if complete_up_to.is_some_and(|seq| seq >= self.ring.base()) {
            self.admit(request, true);
        } else if complete_up_to.is_some_and(|seq| seq < self.ring.unservable_below()) {
            self.admit(request, false);
        } else {
            self.waiting_for_replay.push(request);
            return AdmissionStep::Replay;
        }
        AdmissionStep::Decided
    }

    /// Notes that a read of the log is requested, if subscribers wait for one. False if none waits, or a read runs or
    /// is queued already.
    pub(in crate::shard) fn begin_replay(&mut self) -> bool {
        !self.waiting_for_replay.is_empty() && !std::mem::replace(&mut self.is_replaying, true)
    }

    /// What to read: everything after the last event of the subscriber furthest behind. `None` if none waits any more.
    pub(in crate::shard) fn replay_request(&mut self) -> Option<ReplayRequest> {
        let waiting = self.waiting_for_replay.iter();
        let Some(since) = waiting.filter_map(SubscribeRequest::complete_up_to).min() else {
            self.is_replaying = false;
            return None;
        };
        Some(ReplayRequest {
            since,
            upto: self.ring.base(),
            epoch: self.epoch,
            start_seq: self.start_seq,
            free_space: self.ring.free_space(),
        })
    }

    /// Takes the result of a read, and admits the subscribers that it decides about. The others wait for another read.
    /// Ignores a read that was begun for an earlier state of the channel.
    pub(in crate::shard) fn finish_replay(&mut self, replay: FinishedReplay) {
        let FinishedReplay { request, outcome } = replay;
        if self.start_seq != request.start_seq {
            return;
        }
        self.is_replaying = false;
        self.restart_idle_timer();
        match outcome {
            ReplayOutcome::Frames { base, frames } => {
                if base > request.since {
                    self.ring.mark_unservable_below(base);
                }
                self.ring.extend_back(base, request.upto, frames);
            }
            ReplayOutcome::TooMuch(least) => self.ring.mark_unservable_below(least),
            ReplayOutcome::LogBeginsAt(first) => self.ring.mark_unservable_below(first - 1),
            ReplayOutcome::OtherLog => self.ring.mark_unservable_below(u64::MAX),
            // This drops their `admitted`: each session answers that the channel can't be followed now.
            ReplayOutcome::Unreadable => return self.waiting_for_replay.clear(),
        }
        for request in std::mem::take(&mut self.waiting_for_replay) {
            let complete_up_to = request.complete_up_to().unwrap_or(self.last_seq);
            if complete_up_to >= self.ring.base() {
                self.admit(request, true);
            } else if complete_up_to < self.ring.unservable_below() {
                self.admit(request, false);
            } else {
                // It came during the read, from further behind, or the ring has dropped events meanwhile.
                self.waiting_for_replay.push(request);
            }
        }
    }
}
