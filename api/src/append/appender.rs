//! Appending to the log: once, or a clear word that it is not known.
//!
//! What must hold: an answer of success means stored; "not stored" means it never will be; a
//! retry goes under the same message id, so nothing is stored twice.

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
    link::{AppendConnection, TRY},
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

/// Between tries that were answered "not now".
const BACKOFF: Duration = Duration::from_millis(50);

/// JetStream's error codes that have a meaning here.
mod code {
    /// The stream is full and discards what is new.
    pub(super) const STORE_FAILED: u64 = 10_077;
    /// The same message id is being stored right now.
    pub(super) const DUPLICATE_IN_PROCESS: u64 = 10_158;
}

/// What to append.
#[derive(Clone, Debug)]
pub struct AppendRequest<'a> {
    /// Where it belongs.
    pub channel: &'a Channel,
    /// What happened.
    pub event: &'a Event,
    /// The last token of its subject, where it must be unique.
    pub key: Option<&'a str>,
    /// Names this append among all.
    pub id: MsgId,
    /// The last event of exactly this subject that the asker knows; 0 = there is none. Where another one
    /// came since, nothing is stored.
    pub expected: Option<u64>,
    /// What only services need.
    pub headers: Vec<(&'static str, String)>,
}

impl<'a> AppendRequest<'a> {
    /// An append that is like no other.
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
    /// Not stored by this try: the subject's last event is not the expected one. An earlier try of the
    /// same append may have been stored: brokers since 2.12 look at the sequence before the message id.
    #[error("another one came first. Try again.")]
    Conflict,
    /// The room was closed before this message or edit: no reader shows it.
    #[error("This room is closed.")]
    RoomClosed,
}

impl AppendError {
    const fn outcome(self) -> &'static str {
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

/// Appends over a fixed set of connections, chosen by channel so that a channel's order is kept.
#[derive(Clone, Debug)]
pub struct Appender {
    shards: ShardCount,
    links: Arc<[Arc<AppendConnection>]>,
    /// By shard: what was acknowledged here.
    seen: Arc<[HighestSeen]>,
    metrics: Metrics,
}

#[derive(Clone, Debug)]
struct Metrics {
    seconds: Histogram,
    stored: Counter,
    duplicate: Counter,
}

/// What one try has shown.
#[derive(Debug, PartialEq, Eq)]
enum Try {
    Stored {
        seq: u64,
        duplicate: bool,
    },
    /// The broker said that it did not store it.
    Refused,
    /// Nobody answered.
    Silent,
    Full,
    Conflict,
}

impl Appender {
    /// Opens the connections, each kept open until `stop`.
    ///
    /// # Errors
    /// When the broker is not there.
    pub async fn start(
        args: &NatsArgs,
        shards: ShardCount,
        connections: usize,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let seen: Arc<[HighestSeen]> = shards.all().map(|_| HighestSeen::default()).collect();
        let mut links = Vec::with_capacity(connections);
        for _ in 0..connections.max(1) {
            links.push(AppendConnection::open(args, shards, &seen, stop).await?);
        }
        let metrics = Metrics {
            seconds: metrics::histogram!(names::APPEND_SECONDS),
            stored: metrics::counter!(names::APPENDS_TOTAL, "outcome" => "stored"),
            duplicate: metrics::counter!(names::APPENDS_TOTAL, "outcome" => "duplicate"),
        };
        Ok(Self { shards, links: links.into(), seen, metrics })
    }

    /// Whether every shard takes appends.
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&self) -> Result<(), &'static str> {
        self.links.iter().try_for_each(|link| link.check())
    }

    /// Appends, trying until `deadline` under the same id. Nothing is sent to the broker after the deadline,
    /// also where the process was stopped meanwhile.
    ///
    /// # Errors
    /// [`AppendError`] says what is known.
    pub async fn append(
        &self,
        append: AppendRequest<'_>,
        deadline: Instant,
    ) -> Result<AppendOutcome, AppendError> {
        let started = Instant::now();
        let shard = append.channel.shard(self.shards);
        let mut tries = 0_u32;
        let result = self.try_until(&append, shard, deadline, &mut tries).await;
        self.metrics.seconds.record(started.elapsed().as_secs_f64());
        match &result {
            Ok(appended) => {
                let is_new = matches!(appended, AppendOutcome::New(_));
                if is_new { &self.metrics.stored } else { &self.metrics.duplicate }.increment(1);
                if !is_new || tries > 1 {
                    self.hint(append.channel, appended.position()).await;
                }
            }
            Err(error) => {
                metrics::counter!(names::APPENDS_TOTAL, "outcome" => error.outcome()).increment(1);
            }
        }
        result
    }

    async fn try_until(
        &self,
        append: &AppendRequest<'_>,
        shard: Shard,
        deadline: Instant,
        tries: &mut u32,
    ) -> Result<AppendOutcome, AppendError> {
        let subject = append.channel.log_subject(self.shards, append.event.name(), append.key);
        let payload = append.event.encode();
        let now_us = Timestamp::now().unix_us().to_string();
        let link = self.link(append.channel);
        let mut silent = 0;
        while Instant::now() < deadline {
            let Some((live, epoch)) = link.take(shard) else { break };
            let mut message =
                PublishMessage::build().payload(payload.clone()).message_id(append.id.to_string());
            message = message.header(header::APPENDED, now_us.as_str());
            if let Some(expected) = append.expected {
                message = message.expected_last_subject_sequence(expected);
            }
            for (name, value) in &append.headers {
                message = message.header(*name, value.as_str());
            }
            *tries += 1;
            match one_try(&live.context, &subject, message, deadline).await {
                Try::Stored { seq, duplicate } => {
                    self.seen[shard.index()].note(epoch, seq);
                    let position = LogPosition { shard, seq };
                    if let Some(room) = ended_by_closing(append) {
                        match live.is_closed_before(room, position).await {
                            Ok(false) => {}
                            Ok(true) => return Err(AppendError::RoomClosed),
                            Err(error) => {
                                tracing::warn!(%error, %room, "whether the room was closed first is not known");
                                return Err(AppendError::OutcomeUnknown);
                            }
                        }
                    }
                    return Ok(AppendOutcome::of(position, duplicate));
                }
                Try::Full => return Err(AppendError::LogFull),
                Try::Conflict => return Err(AppendError::Conflict),
                Try::Silent if silent == 1 => return Err(AppendError::OutcomeUnknown),
                Try::Silent => silent += 1,
                Try::Refused => tokio::time::sleep(BACKOFF).await,
            }
        }
        Err(if silent > 0 { AppendError::OutcomeUnknown } else { AppendError::NotStored })
    }

    fn link(&self, channel: &Channel) -> &AppendConnection {
        let hash = match channel {
            Channel::Room(room) => usize::try_from(room.0).unwrap_or(0),
            other => other.shard(self.shards).index(),
        };
        &self.links[hash % self.links.len()]
    }

    /// Tells fan-out nodes that the live copy may be missing: duplicates are not republished.
    async fn hint(&self, channel: &Channel, position: LogPosition) {
        let Some((live, _)) = self.link(channel).take(position.shard) else { return };
        let hint = SyncHint { channel: channel.clone(), seq: position.seq };
        let payload = serde_json::to_vec(&hint).expect("a hint is plain JSON");
        if let Err(error) = live.context.client().publish(subject::sync(position.shard), payload.into()).await
        {
            tracing::warn!(%error, "could not hint at a lost live copy");
        }
    }
}

/// The room of an event that counts only if it is stored before the room's closing: the persister leaves it out
/// behind that, and no socket is in the room any more.
fn ended_by_closing(append: &AppendRequest<'_>) -> Option<RoomId> {
    match (append.channel, append.event) {
        (Channel::Room(room), Event::ChatMessage(_) | Event::MessageEdit(_)) => Some(*room),
        _ => None,
    }
}

async fn one_try(context: &Context, subject: &str, message: PublishMessage, deadline: Instant) -> Try {
    let until = deadline.min(Instant::now() + TRY);
    let sent = context.send_publish(subject.to_owned(), message);
    let ack = match only_before(until, sent).await {
        // The message has not left: too many are on their way.
        None => return Try::Refused,
        Some(Err(error)) => return refusal(&error),
        Some(Ok(ack)) => ack,
    };
    timeout_at(until, ack.into_future()).await.map_or(Try::Silent, shown)
}

/// Runs a future that is not polled any more once `until` has passed; `None` where it is not done by then. A time-out of
/// tokio polls its future before it looks at the clock: after a pause of the process that would still send.
async fn only_before<T>(until: Instant, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let guarded = poll_fn(|context| {
        if Instant::now() >= until { Poll::Ready(None) } else { future.as_mut().poll(context).map(Some) }
    });
    timeout_at(until, guarded).await.ok().flatten()
}

/// What the broker's answer shows.
fn shown(answer: Result<PublishAck, PublishError>) -> Try {
    match answer {
        Err(error) => refusal(&error),
        // A cluster before 2.11 acknowledges the retry of a staged message with sequence 0.
        Ok(ack) if ack.sequence == 0 => Try::Refused,
        Ok(ack) => Try::Stored { seq: ack.sequence, duplicate: ack.duplicate },
    }
}

fn refusal(error: &PublishError) -> Try {
    use std::error::Error as _;
    match error.kind() {
        // No responders: no leader now.
        PublishErrorKind::StreamNotFound | PublishErrorKind::MaxAckPending => Try::Refused,
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => Try::Silent,
        PublishErrorKind::WrongLastSequence => Try::Conflict,
        _ => {
            let source = error.source().and_then(|e| e.downcast_ref::<async_nats::jetstream::Error>());
            match source.map(|error| error.error_code().0) {
                Some(code::STORE_FAILED) => Try::Full,
                Some(code::DUPLICATE_IN_PROCESS) => Try::Refused,
                _ => {
                    tracing::warn!(%error, "the broker refuses an append");
                    Try::Refused
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
    fn an_acknowledgement_without_a_place_is_no_success() {
        for (seq, duplicate, expected) in [
            (0, false, Try::Refused),
            (0, true, Try::Refused),
            (7, false, Try::Stored { seq: 7, duplicate: false }),
            (7, true, Try::Stored { seq: 7, duplicate: true }),
        ] {
            let ack = json!({ "stream": subject::stream(Shard::SYSTEM), "seq": seq, "duplicate": duplicate });
            assert_eq!(shown(Ok(serde_json::from_value(ack).expect("an answer"))), expected);
        }
    }

    #[tokio::test]
    async fn a_future_is_not_polled_once_its_deadline_has_passed() {
        assert_eq!(only_before(Instant::now() + TRY, async { 1 }).await, Some(1));
        let until = Instant::now() + Duration::from_millis(5);
        assert_eq!(only_before(until, std::future::pending::<u8>()).await, None);
        let sent = std::cell::Cell::new(false);
        assert_eq!(only_before(until, async { sent.set(true) }).await, None);
        assert!(!sent.get(), "the deadline was over before the first poll");
    }

    #[test]
    fn what_may_be_stored_is_not_called_refused() {
        for (kind, expected) in [
            (PublishErrorKind::StreamNotFound, Try::Refused),
            (PublishErrorKind::MaxAckPending, Try::Refused),
            (PublishErrorKind::TimedOut, Try::Silent),
            (PublishErrorKind::BrokenPipe, Try::Silent),
            (PublishErrorKind::WrongLastSequence, Try::Conflict),
        ] {
            assert_eq!(shown(Err(PublishError::new(kind))), expected, "{kind}");
        }
    }
}
