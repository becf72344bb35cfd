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

/// What stands in a stream's description: `roomcast shards=8 epoch=1 broker=NA…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamDescription {
    /// How many shards the deployment has.
    pub shards: ShardCount,
    /// Goes up whenever ids may have been given twice: a position from another epoch counts for nothing.
    pub epoch: u64,
    /// The process of a single broker on which the persister has looked at the log.
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
        let read = || {
            let (shards, rest) = text.strip_prefix("roomcast shards=")?.split_once(" epoch=")?;
            let (epoch, broker) = match rest.split_once(" broker=") {
                Some((epoch, broker)) => (epoch, Some(broker.to_owned())),
                None => (rest, None),
            };
            Some(Self { shards: ShardCount::new(shards.parse().ok()?)?, epoch: epoch.parse().ok()?, broker })
        };
        read().with_context(|| format!("not a stream of Roomcast: its description is {text:?}"))
    }
}

/// Where a stream begins and ends, as its leader says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// The sequence of its first event, or the next one where it is empty.
    pub first: u64,
    /// The sequence of its last event, or of the last one there was.
    pub last: u64,
    /// Its epoch.
    pub epoch: u64,
    /// How many events it holds.
    pub messages: u64,
    /// How many bytes it holds.
    pub bytes: u64,
    /// How many it may hold; 0 = no limit.
    pub max_bytes: u64,
    /// How many servers hold it.
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

/// What a deployment's log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogInfo {
    /// How many shards it has.
    pub shards: ShardCount,
    /// How many servers hold each stream.
    pub replicas: usize,
}

async fn stream_info(jetstream: &Context, shard: Shard) -> anyhow::Result<Info> {
    let name = subject::stream(shard);
    let stream = jetstream.get_stream(&name).await.with_context(|| format!("stream {name}"))?;
    Ok(stream.cached_info().clone())
}

/// Asks the leader of a shard's stream where it begins and ends. What is stored after the answer
/// is heard by every subscription made before the question, on the same connection.
///
/// # Errors
/// When there is no such stream, no leader now, or it is not one of Roomcast's.
pub async fn state(jetstream: &Context, shard: Shard) -> anyhow::Result<StreamState> {
    StreamState::try_from(&stream_info(jetstream, shard).await?)
}

/// The same, with all that the stream's description says.
pub async fn describe(jetstream: &Context, shard: Shard) -> anyhow::Result<(StreamState, StreamDescription)> {
    let info = stream_info(jetstream, shard).await?;
    let description = info.config.description.as_deref().unwrap_or("").parse()?;
    Ok((StreamState::try_from(&info)?, description))
}

/// Learns the deployment's shape from its system stream, waiting up to 30 s for the persister to make it.
///
/// # Errors
/// When there is none by then.
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
                return Err(error.context("the log is not there: does a persister run?"));
            }
            Err(error) => {
                tracing::info!(%error, "waiting for the log");
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

/// The event of that sequence, from the leader.
///
/// # Errors
/// When the leader does not answer.
pub async fn get(jetstream: &Context, shard: Shard, seq: u64) -> anyhow::Result<Option<StoredEvent>> {
    if seq == 0 {
        // Sequences begin at 1; to the server 0 is no question.
        return Ok(None);
    }
    let stream = jetstream.get_stream_no_info(subject::stream(shard)).await?;
    match stream.get_raw_message(seq).await {
        Ok(message) => Ok(Some(to_stored_event(shard, message))),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The first event of exactly that subject from a sequence on, from the leader.
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

/// The last event of exactly that subject, from the leader.
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

/// Removes all events before `seq`. Where the stream ends before it, its next sequence is `seq`:
/// measured on nats-server 2.9.10 and 2.15.1.
///
/// # Errors
/// When the leader refuses or does not answer.
pub async fn purge_below(jetstream: &Context, shard: Shard, seq: u64) -> anyhow::Result<()> {
    let api = format!("STREAM.PURGE.{}", subject::stream(shard));
    let answer: PurgeResponse = jetstream.request(api, &serde_json::json!({ "seq": seq })).await?;
    if answer.success { Ok(()) } else { bail!("the broker did not purge {shard}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_comes_back() {
        for text in ["roomcast shards=8 epoch=3", "roomcast shards=8 epoch=3 broker=NAB2"] {
            let description: StreamDescription = text.parse().expect("our own form");
            assert_eq!(description.to_string(), text);
        }
        for bad in ["", "roomcast", "roomcast shards=0 epoch=1", "roomcast shards=8 epoch=x"] {
            assert!(bad.parse::<StreamDescription>().is_err(), "{bad}");
        }
    }
}
