//! Appending to the log: once, or a clear word that it is not known.
//!
//! What must hold: an answer of success means stored; "not stored" means it never will be; a
//! retry goes under the same message id, so nothing is stored twice. The connections give up when
//! the broker is gone, and what they had queued dies with them: else a message could be stored
//! minutes after its sender was told that it was not.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use async_nats::jetstream::{
    Context,
    context::{ContextBuilder, PublishError, PublishErrorKind},
    message::PublishMessage,
};
use metrics::{Counter, Histogram};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{MsgId, SyncHint};
use crate::{
    clock::Timestamp,
    error::{Error, ErrorCode},
    event::{Event, header},
    id::{Shard, ShardCount},
    metric_names as names,
    nats::{self, Connection, NatsArgs, NatsEvent, Reconnect, Role},
    subject::{self, Channel},
};

/// How long one try waits for its acknowledgement.
const TRY: Duration = Duration::from_secs(2);
/// Between tries that were answered "not now".
const BACKOFF: Duration = Duration::from_millis(50);
/// Appends that one connection may have on their way.
const IN_FLIGHT: usize = 1_000;

/// JetStream's error codes that have a meaning here.
mod code {
    /// The stream is full and discards what is new.
    pub(super) const STORE_FAILED: u64 = 10_077;
    /// The same message id is being stored right now.
    pub(super) const DUPLICATE_IN_PROCESS: u64 = 10_158;
}

/// What to append.
#[derive(Clone, Debug)]
pub struct Append<'a> {
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

impl<'a> Append<'a> {
    /// An append that is like no other.
    #[must_use]
    pub const fn new(channel: &'a Channel, event: &'a Event, id: MsgId) -> Self {
        Self { channel, event, key: None, id, expected: None, headers: vec![] }
    }
}

/// It is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The stream it is in.
    pub shard: Shard,
    /// Its place there.
    pub seq: u64,
    /// It had been stored before, under the same id.
    pub duplicate: bool,
}

/// It is not stored, or it is not known.
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
}

impl AppendError {
    const fn outcome(self) -> &'static str {
        match self {
            Self::NotStored => "not_stored",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::LogFull => "log_full",
            Self::Conflict => "conflict",
        }
    }
}

impl From<AppendError> for Error {
    fn from(error: AppendError) -> Self {
        let code = match error {
            AppendError::NotStored | AppendError::LogFull => ErrorCode::NotStored,
            AppendError::OutcomeUnknown => ErrorCode::OutcomeUnknown,
            AppendError::Conflict => ErrorCode::Conflict,
        };
        Self::new(code, error.to_string())
    }
}

/// Appends over a fixed set of connections, chosen by channel so that a channel's order is kept.
#[derive(Clone, Debug)]
pub struct Appender {
    shards: ShardCount,
    slots: Arc<[Arc<Slot>]>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Slot {
    /// None while its connection is down.
    live: ArcSwapOption<Context>,
}

#[derive(Clone, Debug)]
struct Metrics {
    seconds: Histogram,
    stored: Counter,
    duplicate: Counter,
}

/// What one try has shown.
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
        let mut slots = Vec::with_capacity(connections);
        for _ in 0..connections.max(1) {
            let slot = Arc::new(Slot::default());
            let connection = nats::open(args, Role::Api, Reconnect::GiveUp).await?;
            slot.up(&connection);
            tokio::spawn(keep_open(slot.clone(), connection, args.clone(), stop.clone()));
            slots.push(slot);
        }
        let metrics = Metrics {
            seconds: metrics::histogram!(names::APPEND_SECONDS),
            stored: metrics::counter!(names::APPENDS_TOTAL, "outcome" => "stored"),
            duplicate: metrics::counter!(names::APPENDS_TOTAL, "outcome" => "duplicate"),
        };
        Ok(Self { shards, slots: slots.into(), metrics })
    }

    /// Whether every connection is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.slots.iter().all(|slot| slot.live.load().is_some())
    }

    /// Appends, trying until `deadline` under the same id.
    ///
    /// # Errors
    /// [`AppendError`] says what is known.
    pub async fn append(&self, append: Append<'_>, deadline: Instant) -> Result<Appended, AppendError> {
        let started = Instant::now();
        let shard = append.channel.shard(self.shards);
        let mut tries = 0_u32;
        let result = self.try_until(&append, shard, deadline, &mut tries).await;
        self.metrics.seconds.record(started.elapsed().as_secs_f64());
        match &result {
            Ok(appended) => {
                if appended.duplicate { &self.metrics.duplicate } else { &self.metrics.stored }.increment(1);
                if appended.duplicate || tries > 1 {
                    self.hint(append.channel, *appended).await;
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
        append: &Append<'_>,
        shard: Shard,
        deadline: Instant,
        tries: &mut u32,
    ) -> Result<Appended, AppendError> {
        let subject = append.channel.chat(self.shards, append.event.name(), append.key);
        let payload = append.event.encode();
        let now_us = Timestamp::now().unix_us().to_string();
        let slot = &self.slots[self.slot(append.channel)];
        let mut silent = 0;
        while Instant::now() < deadline {
            let Some(context) = slot.live.load_full() else { break };
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
            match one_try(&context, &subject, message, deadline).await {
                Try::Stored { seq, duplicate } => return Ok(Appended { shard, seq, duplicate }),
                Try::Full => return Err(AppendError::LogFull),
                Try::Conflict => return Err(AppendError::Conflict),
                Try::Silent if silent == 1 => return Err(AppendError::OutcomeUnknown),
                Try::Silent => silent += 1,
                Try::Refused => tokio::time::sleep(BACKOFF).await,
            }
        }
        Err(if silent > 0 { AppendError::OutcomeUnknown } else { AppendError::NotStored })
    }

    fn slot(&self, channel: &Channel) -> usize {
        let hash = match channel {
            Channel::Room(room) => usize::try_from(room.0).unwrap_or(0),
            other => other.shard(self.shards).index(),
        };
        hash % self.slots.len()
    }

    /// Tells fan-out nodes that the live copy may be missing: duplicates are not republished.
    async fn hint(&self, channel: &Channel, appended: Appended) {
        let Some(context) = self.slots[self.slot(channel)].live.load_full() else { return };
        let hint = SyncHint { channel: channel.clone(), seq: appended.seq };
        let payload = serde_json::to_vec(&hint).expect("a hint is plain JSON");
        if let Err(error) = context.client().publish(subject::sync(appended.shard), payload.into()).await {
            tracing::warn!(%error, "could not hint at a lost live copy");
        }
    }
}

async fn one_try(context: &Context, subject: &str, message: PublishMessage, deadline: Instant) -> Try {
    let until = deadline.min(Instant::now() + TRY);
    let sent = context.send_publish(subject.to_owned(), message);
    let ack = match timeout_at(until, sent).await {
        // The message has not left: too many are on their way.
        Err(_) => return Try::Refused,
        Ok(Err(error)) => return refusal(&error),
        Ok(Ok(ack)) => ack,
    };
    match timeout_at(until, ack.into_future()).await {
        Err(_) => Try::Silent,
        Ok(Err(error)) => refusal(&error),
        // A cluster before 2.11 acknowledges the retry of a staged message with sequence 0.
        Ok(Ok(ack)) if ack.sequence == 0 => Try::Refused,
        Ok(Ok(ack)) => Try::Stored { seq: ack.sequence, duplicate: ack.duplicate },
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

impl Slot {
    fn up(&self, connection: &Connection) {
        let context = ContextBuilder::new()
            .ack_timeout(TRY)
            .max_ack_inflight(IN_FLIGHT)
            .backpressure_on_inflight(true)
            .build(connection.client.clone());
        self.live.store(Some(Arc::new(context)));
    }
}

/// Replaces a connection that is lost. While it is down nothing is published on it, and what it
/// had queued dies with it: the client gives up soon, and says so to nobody.
async fn keep_open(slot: Arc<Slot>, mut connection: Connection, args: NatsArgs, stop: CancellationToken) {
    loop {
        let mut events = connection.events();
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.recv() => event,
            };
            match event {
                Ok(NatsEvent::Connected | NatsEvent::SlowConsumer) => {}
                Ok(NatsEvent::Disconnected | NatsEvent::Closed) | Err(_) => break,
            }
        }
        slot.live.store(None);
        connection = loop {
            match nats::open(&args, Role::Api, Reconnect::GiveUp).await {
                Ok(connection) => break connection,
                Err(error) => tracing::debug!(%error, "no connection to append on"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        };
        slot.up(&connection);
    }
}
