//! Appends events to the log: once, or with an answer that the outcome is not known.
//!
//! What must hold: success means that the event is stored. "Not stored" means that it never will be. A retry has the
//! same message id, so nothing is stored twice.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use async_nats::jetstream::{
    Context,
    context::{PublishError, PublishErrorKind},
    message::PublishMessage,
    publish::PublishAck,
};
use metrics::{Counter, Histogram};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    AppendOutcome, LogPosition, MsgId,
    connection::{ATTEMPT_TIMEOUT, AppendConnection},
};
use log::{HighestSeen, SyncHint};
use protocol::{
    clock::Timestamp,
    error::{Error, ErrorCode},
    event::{Event, header},
    id::{RoomId, Shard, ShardCount},
    subject::{self, Channel},
};
use service::{metric_names as names, nats::NatsArgs};

/// Pause before an attempt that follows a refusal.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Error codes of JetStream that are handled here.
mod code {
    /// The stream is full and discards new messages.
    pub(super) const STORE_FAILED: u64 = 10_077;
    /// The broker is storing a message of the same id right now.
    pub(super) const DUPLICATE_IN_PROCESS: u64 = 10_158;
}

/// An event to append.
#[derive(Clone, Debug)]
pub struct AppendRequest<'a> {
    /// The channel it belongs to.
    pub channel: &'a Channel,
    /// The event.
    pub event: &'a Event,
    /// The last token of the subject, for events that are unique by key.
    pub key: Option<&'a str>,
    /// The message id: the broker stores one event for each.
    pub id: MsgId,
    /// Sequence of the last event of exactly this subject that the caller has seen; 0 if there was none. If the
    /// broker has a later one, nothing is stored.
    pub expected: Option<u64>,
    /// Headers for the other services, besides the message id.
    pub headers: Vec<(&'static str, String)>,
}

impl<'a> AppendRequest<'a> {
    /// Makes an append without key, expected sequence or further headers.
    #[must_use]
    pub const fn new(channel: &'a Channel, event: &'a Event, id: MsgId) -> Self {
        Self { channel, event, key: None, id, expected: None, headers: vec![] }
    }
}

/// Why an append is not known to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Not stored, and never will be.
    #[error("the message was not stored. Try again.")]
    NotStored,
    /// The broker did not answer: it may be stored.
    #[error("whether the message was stored is not known. Try again under the same key.")]
    OutcomeUnknown,
    /// The stream is full of what Postgres has not got yet.
    #[error("the log is full. Try again later.")]
    LogFull,
    /// Not stored by this attempt: the subject's last event is not the expected one. An earlier attempt of the same
    /// append may have been stored: brokers since 2.12 check the sequence before the message id.
    #[error("another one came first. Try again.")]
    Conflict,
    /// The room was closed before this message or edit: no reader shows it.
    #[error("This room is closed.")]
    RoomClosed,
}

impl AppendError {
    const fn metric_label(self) -> &'static str {
        match self {
            Self::NotStored => "not_stored",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::LogFull => "log_full",
            Self::Conflict => "conflict",
            Self::RoomClosed => "room_closed",
        }
    }
}

impl From<AppendError> for Error {
    fn from(error: AppendError) -> Self {
        let code = match error {
            AppendError::NotStored | AppendError::LogFull => ErrorCode::NotStored,
            AppendError::OutcomeUnknown => ErrorCode::OutcomeUnknown,
            AppendError::Conflict | AppendError::RoomClosed => ErrorCode::Conflict,
        };
        Self::new(code, error.to_string())
    }
}

/// Appends over a fixed set of connections. The channel selects the connection, which keeps a channel's order.
#[derive(Clone, Debug)]
pub struct Appender {
    shards: ShardCount,
    connections: Arc<[Arc<AppendConnection>]>,
    /// By shard: the highest position acknowledged to this node.
    highest_seen: Arc<[HighestSeen]>,
    metrics: AppendMetrics,
}

#[derive(Clone, Debug)]
struct AppendMetrics {
    seconds: Histogram,
    stored: Counter,
    duplicate: Counter,
}

/// The result of one attempt.
#[derive(Debug, PartialEq, Eq)]
enum AttemptOutcome {
    Stored {
        seq: u64,
        is_duplicate: bool,
    },
    /// The broker said that it did not store the event.
    Refused,
    /// The broker did not answer: the event may be stored.
    NoAnswer,
    LogFull,
    Conflict,
}

impl Appender {
    /// Opens the connections, and keeps them open until `stop`.
    ///
    /// # Errors
    /// Fails if the broker is not reachable.
    pub async fn start(
        args: &NatsArgs,
        shards: ShardCount,
        count: usize,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let highest_seen: Arc<[HighestSeen]> = shards.all().map(|_| HighestSeen::default()).collect();
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count.max(1) {
            connections.push(AppendConnection::open(args, shards, &highest_seen, stop).await?);
        }
        let metrics = AppendMetrics {
            seconds: metrics::histogram!(names::APPEND_SECONDS),
            stored: metrics::counter!(names::APPENDS_TOTAL, "outcome" => "stored"),
            duplicate: metrics::counter!(names::APPENDS_TOTAL, "outcome" => "duplicate"),
        };
        Ok(Self { shards, connections: connections.into(), highest_seen, metrics })
    }

    /// Returns whether every shard takes appends.
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&self) -> Result<(), &'static str> {
        self.connections.iter().try_for_each(|connection| connection.check())
    }

    /// Appends an event, with retries under one message id until `deadline`. Nothing is sent to the broker after the
    /// deadline, even if the process was paused meanwhile.
    ///
    /// # Errors
    /// [`AppendError`] says what is known of the outcome.
    pub async fn append(
        &self,
        append: AppendRequest<'_>,
        deadline: Instant,
    ) -> Result<AppendOutcome, AppendError> {
        let started = Instant::now();
        let shard = append.channel.shard(self.shards);
        let mut attempts = 0_u32;
        let result = self.append_with_retries(&append, shard, deadline, &mut attempts).await;
        self.metrics.seconds.record(started.elapsed().as_secs_f64());
        match &result {
            Ok(appended) => {
                let is_new = matches!(appended, AppendOutcome::New(_));
                if is_new { &self.metrics.stored } else { &self.metrics.duplicate }.increment(1);
                if !is_new || attempts > 1 {
                    self.publish_sync_hint(append.channel, appended.position()).await;
                }
            }
            Err(error) => {
                metrics::counter!(names::APPENDS_TOTAL, "outcome" => error.metric_label()).increment(1);
            }
        }
        result
    }

    async fn append_with_retries(
        &self,
        append: &AppendRequest<'_>,
        shard: Shard,
        deadline: Instant,
        attempts: &mut u32,
    ) -> Result<AppendOutcome, AppendError> {
        let subject = append.channel.log_subject(self.shards, append.event.name(), append.key);
        let payload = append.event.encode();
        let now_us = Timestamp::now().unix_us().to_string();
        let connection = self.connection_for(append.channel);
        let mut unanswered_attempts = 0;
        while Instant::now() < deadline {
            let Some((live, epoch)) = connection.for_appends_to(shard) else { break };
            let mut message =
                PublishMessage::build().payload(payload.clone()).message_id(append.id.to_string());
            message = message.header(header::APPENDED, now_us.as_str());
            if let Some(expected) = append.expected {
                message = message.expected_last_subject_sequence(expected);
            }
            for (name, value) in &append.headers {
                message = message.header(*name, value.as_str());
            }
            *attempts += 1;
            match attempt_append(&live.context, &subject, message, deadline).await {
                AttemptOutcome::Stored { seq, is_duplicate: duplicate } => {
                    self.highest_seen[shard.index()].note(epoch, seq);
                    let position = LogPosition { shard, seq };
                    if let Some(room) = room_whose_closing_ends(append) {
                        match live.is_closed_before(room, position).await {
                            Ok(false) => {}
                            Ok(true) => return Err(AppendError::RoomClosed),
                            Err(error) => {
                                tracing::warn!(%error, %room, "could not read whether the room was closed first");
                                return Err(AppendError::OutcomeUnknown);
                            }
                        }
                    }
                    return Ok(AppendOutcome::new(position, duplicate));
                }
                AttemptOutcome::LogFull => return Err(AppendError::LogFull),
                AttemptOutcome::Conflict => return Err(AppendError::Conflict),
                AttemptOutcome::NoAnswer if unanswered_attempts == 1 => {
                    return Err(AppendError::OutcomeUnknown);
                }
                AttemptOutcome::NoAnswer => unanswered_attempts += 1,
                AttemptOutcome::Refused => tokio::time::sleep(RETRY_INTERVAL).await,
            }
        }
        Err(if unanswered_attempts > 0 { AppendError::OutcomeUnknown } else { AppendError::NotStored })
    }

    fn connection_for(&self, channel: &Channel) -> &AppendConnection {
        let hash = match channel {
            Channel::Room(room) => usize::try_from(room.0).unwrap_or(0),
            other => other.shard(self.shards).index(),
        };
        &self.connections[hash % self.connections.len()]
    }

    /// Tells fan-out nodes that they may lack the live copy: duplicates are not republished.
    async fn publish_sync_hint(&self, channel: &Channel, position: LogPosition) {
        let Some((live, _)) = self.connection_for(channel).for_appends_to(position.shard) else { return };
        let hint = SyncHint { channel: channel.clone(), seq: position.seq };
        let payload = serde_json::to_vec(&hint).expect("a hint is plain JSON");
        if let Err(error) = live.context.client().publish(subject::sync(position.shard), payload.into()).await
        {
            tracing::warn!(%error, "could not tell fan-out nodes that a live copy may be lost");
        }
    }
}

/// Returns the room of an event that counts only if it is stored before the room's closing. The persister ignores
/// such an event after the closing, and no socket is in the room any more.
fn room_whose_closing_ends(append: &AppendRequest<'_>) -> Option<RoomId> {
    match (append.channel, append.event) {
        (Channel::Room(room), Event::ChatMessage(_) | Event::MessageEdit(_)) => Some(*room),
        _ => None,
    }
}

async fn attempt_append(
    context: &Context,
    subject: &str,
    message: PublishMessage,
    deadline: Instant,
) -> AttemptOutcome {
    let until = deadline.min(Instant::now() + ATTEMPT_TIMEOUT);
    let sent = context.send_publish(subject.to_owned(), message);
    let ack = match run_only_before(until, sent).await {
        // The message was not sent: too many wait for their acknowledgements.
        None => return AttemptOutcome::Refused,
        Some(Err(error)) => return outcome_of_error(&error),
        Some(Ok(ack)) => ack,
    };
    timeout_at(until, ack.into_future()).await.map_or(AttemptOutcome::NoAnswer, outcome_of_answer)
}

/// Runs a future, which is not polled any more once `until` has passed; `None` if it is not done by then. A timeout
/// of tokio polls its future before it looks at the clock: after a pause of the process that would still send.
async fn run_only_before<T>(until: Instant, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let guarded = poll_fn(|context| {
        if Instant::now() >= until { Poll::Ready(None) } else { future.as_mut().poll(context).map(Some) }
    });
    timeout_at(until, guarded).await.ok().flatten()
}

/// Interprets an answer of the broker.
fn outcome_of_answer(answer: Result<PublishAck, PublishError>) -> AttemptOutcome {
    match answer {
        Err(error) => outcome_of_error(&error),
        // A cluster before 2.11 acknowledges the retry of a message that it is still storing with sequence 0.
        Ok(ack) if ack.sequence == 0 => AttemptOutcome::Refused,
        Ok(ack) => AttemptOutcome::Stored { seq: ack.sequence, is_duplicate: ack.duplicate },
    }
}

fn outcome_of_error(error: &PublishError) -> AttemptOutcome {
    use std::error::Error as _;
    match error.kind() {
        // No responders: the stream has no leader now.
        PublishErrorKind::StreamNotFound | PublishErrorKind::MaxAckPending => AttemptOutcome::Refused,
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => AttemptOutcome::NoAnswer,
        PublishErrorKind::WrongLastSequence => AttemptOutcome::Conflict,
        _ => {
            let source = error.source().and_then(|e| e.downcast_ref::<async_nats::jetstream::Error>());
            match source.map(|error| error.error_code().0) {
                Some(code::STORE_FAILED) => AttemptOutcome::LogFull,
                Some(code::DUPLICATE_IN_PROCESS) => AttemptOutcome::Refused,
                _ => {
                    tracing::warn!(%error, "the broker refused an append; retrying until the deadline");
                    AttemptOutcome::Refused
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn acknowledgement_without_a_sequence_is_no_success() {
        for (seq, duplicate, expected) in [
            (0, false, AttemptOutcome::Refused),
            (0, true, AttemptOutcome::Refused),
            (7, false, AttemptOutcome::Stored { seq: 7, is_duplicate: false }),
            (7, true, AttemptOutcome::Stored { seq: 7, is_duplicate: true }),
        ] {
            let ack = json!({ "stream": subject::stream(Shard::SYSTEM), "seq": seq, "duplicate": duplicate });
            assert_eq!(outcome_of_answer(Ok(serde_json::from_value(ack).expect("an answer"))), expected);
        }
    }

    #[tokio::test]
    async fn append_future_is_not_polled_after_its_deadline() {
        assert_eq!(run_only_before(Instant::now() + ATTEMPT_TIMEOUT, async { 1 }).await, Some(1));
        let until = Instant::now() + Duration::from_millis(5);
        assert_eq!(run_only_before(until, std::future::pending::<u8>()).await, None);
        let sent = std::cell::Cell::new(false);
        assert_eq!(run_only_before(until, async { sent.set(true) }).await, None);
        assert!(!sent.get(), "the deadline was over before the first poll");
    }

    #[test]
    fn append_that_may_be_stored_is_not_called_refused() {
        for (kind, expected) in [
            (PublishErrorKind::StreamNotFound, AttemptOutcome::Refused),
            (PublishErrorKind::MaxAckPending, AttemptOutcome::Refused),
            (PublishErrorKind::TimedOut, AttemptOutcome::NoAnswer),
            (PublishErrorKind::BrokenPipe, AttemptOutcome::NoAnswer),
            (PublishErrorKind::WrongLastSequence, AttemptOutcome::Conflict),
        ] {
            assert_eq!(outcome_of_answer(Err(PublishError::new(kind))), expected, "{kind}");
        }
    }
}
