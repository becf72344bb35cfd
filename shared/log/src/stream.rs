//! Reads a stream's state and single events from its leader.

use std::{fmt, str::FromStr, time::Duration};

use anyhow::{Context as _, bail};
use async_nats::jetstream::{
    Context,
    message::StreamMessage,
    stream::{Info, LastRawMessageErrorKind, RawMessageErrorKind},
};
use serde::Deserialize;

use super::StoredEvent;
use protocol::{
    id::{Shard, ShardCount},
    subject,
};

/// The description of a stream, in the form `roomcast shards=8 epoch=1 broker=NA…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamDescription {
    /// Number of shards of the deployment.
    pub shards: ShardCount,
    /// Raised whenever ids may have been assigned twice: a position of another epoch is invalid.
    pub epoch: u64,
    /// The process of a single broker on which the persister last checked the log.
    pub broker: Option<String>,
}

impl fmt::Display for StreamDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "roomcast shards={} epoch={}", self.shards.get(), self.epoch)?;
        self.broker.iter().try_for_each(|broker| write!(f, " broker={broker}"))
    }
}

impl FromStr for StreamDescription {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parse = || {
            let (shards, rest) = text.strip_prefix("roomcast shards=")?.split_once(" epoch=")?;
            let (epoch, broker) = match rest.split_once(" broker=") {
                Some((epoch, broker)) => (epoch, Some(broker.to_owned())),
                None => (rest, None),
            };
            Some(Self { shards: ShardCount::new(shards.parse().ok()?)?, epoch: epoch.parse().ok()?, broker })
        };
        parse().with_context(|| format!("not a stream of Roomcast: its description is {text:?}"))
    }
}

/// The range and size of a stream, as its leader reports them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// The sequence of its first event, or the next sequence if it is empty.
    pub first: u64,
    /// The sequence of its last event, even if that was removed.
    pub last: u64,
    /// Its epoch.
    pub epoch: u64,
    /// Number of its events.
    pub messages: u64,
    /// Bytes of its events.
    pub bytes: u64,
    /// Maximum bytes of its events; 0 = no limit.
    pub max_bytes: u64,
    /// Number of servers that hold a copy of it.
    pub replicas: usize,
}

impl TryFrom<&Info> for StreamState {
    type Error = anyhow::Error;

    fn try_from(info: &Info) -> anyhow::Result<Self> {
        let description: StreamDescription = info.config.description.as_deref().unwrap_or("").parse()?;
        Ok(Self {
            first: info.state.first_sequence.max(1),
            last: info.state.last_sequence,
            epoch: description.epoch,
            messages: info.state.messages,
            bytes: info.state.bytes,
            max_bytes: u64::try_from(info.config.max_bytes).unwrap_or(0),
            replicas: info.config.num_replicas,
        })
    }
}

/// The shape of a deployment's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogInfo {
    /// Number of its shards.
    pub shards: ShardCount,
    /// Number of servers that hold a copy of each stream.
    pub replicas: usize,
}

async fn stream_info(jetstream: &Context, shard: Shard) -> anyhow::Result<Info> {
    let name = subject::stream(shard);
    let stream = jetstream.get_stream(&name).await.with_context(|| format!("stream {name}"))?;
    Ok(stream.cached_info().clone())
}

/// Asks the leader of a shard's stream for the stream's state. Every subscription made before the question, on the same
/// connection, receives what is stored after the answer.
///
/// # Errors
/// When there is no such stream, it has no leader now, or it is not one of Roomcast's.
pub async fn state(jetstream: &Context, shard: Shard) -> anyhow::Result<StreamState> {
    StreamState::try_from(&stream_info(jetstream, shard).await?)
}

/// Like [`state`]; also returns the stream's description.
pub async fn describe(jetstream: &Context, shard: Shard) -> anyhow::Result<(StreamState, StreamDescription)> {
    let info = stream_info(jetstream, shard).await?;
    let description = info.config.description.as_deref().unwrap_or("").parse()?;
    Ok((StreamState::try_from(&info)?, description))
}

/// Reads the deployment's shape from its system stream, waiting up to 30 s for the persister to create it.
///
/// # Errors
/// When the system stream does not exist by then, or is not one of Roomcast's.
pub async fn discover(jetstream: &Context) -> anyhow::Result<LogInfo> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        match stream_info(jetstream, Shard::SYSTEM).await {
            Ok(info) => {
                let text = info.config.description.as_deref().unwrap_or("");
                let shards = text.parse::<StreamDescription>()?.shards;
                return Ok(LogInfo { shards, replicas: info.config.num_replicas });
            }
            Err(error) if tokio::time::Instant::now() >= deadline => {
                return Err(error.context("the log does not exist: is a persister running?"));
            }
            Err(error) => {
                tracing::info!(%error, "the log is not available, retrying");
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
}

fn to_stored_event(shard: Shard, message: StreamMessage) -> StoredEvent {
    StoredEvent {
        shard,
        seq: message.sequence,
        subject: message.subject.to_string(),
        headers: message.headers,
        payload: message.payload,
        time: message.time,
    }
}

/// Reads the event of this sequence from the leader; `None` if there is none.
///
/// # Errors
/// When the leader does not answer.
pub async fn get(jetstream: &Context, shard: Shard, seq: u64) -> anyhow::Result<Option<StoredEvent>> {
    if seq == 0 {
        // Sequences begin at 1; the server refuses a request for 0.
        return Ok(None);
    }
    let stream = jetstream.get_stream_no_info(subject::stream(shard)).await?;
    match stream.get_raw_message(seq).await {
        Ok(message) => Ok(Some(to_stored_event(shard, message))),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads, from the leader, the first event of exactly this subject whose sequence is at least `from`.
///
/// # Errors
/// When the subject is not of the log, or the leader does not answer.
pub async fn next(jetstream: &Context, subject: &str, from: u64) -> anyhow::Result<Option<StoredEvent>> {
    let Ok(parsed) = subject::parse(subject) else { bail!("not a subject of the log: {subject}") };
    let stream = jetstream.get_stream_no_info(subject::stream(parsed.shard)).await?;
    match stream.get_first_raw_message_by_subject(subject, from.max(1)).await {
        Ok(message) => Ok(Some(to_stored_event(parsed.shard, message))),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads, from the leader, the last event of exactly this subject.
///
/// # Errors
/// When the subject is not of the log, or the leader does not answer.
pub async fn last(jetstream: &Context, subject: &str) -> anyhow::Result<Option<StoredEvent>> {
    let Ok(parsed) = subject::parse(subject) else { bail!("not a subject of the log: {subject}") };
    let stream = jetstream.get_stream_no_info(subject::stream(parsed.shard)).await?;
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(message) => Ok(Some(to_stored_event(parsed.shard, message))),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug, Deserialize)]
struct PurgeResponse {
    #[serde(default)]
    success: bool,
}

/// Removes all events before `seq`. If the stream ends before it, the stream's next sequence is `seq`: measured on
/// nats-server 2.9.10 and 2.15.1.
///
/// # Errors
/// When the leader refuses or does not answer.
pub async fn purge_below(jetstream: &Context, shard: Shard, seq: u64) -> anyhow::Result<()> {
    let api = format!("STREAM.PURGE.{}", subject::stream(shard));
    let response: PurgeResponse = jetstream.request(api, &serde_json::json!({ "seq": seq })).await?;
    if response.success { Ok(()) } else { bail!("the broker did not purge the stream of shard {shard}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_description_round_trips() {
        for text in ["roomcast shards=8 epoch=3", "roomcast shards=8 epoch=3 broker=NAB2"] {
            let description: StreamDescription = text.parse().expect("our own form");
            assert_eq!(description.to_string(), text);
        }
        for bad in ["", "roomcast", "roomcast shards=0 epoch=1", "roomcast shards=8 epoch=x"] {
            assert!(bad.parse::<StreamDescription>().is_err(), "{bad}");
        }
    }
}
