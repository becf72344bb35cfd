//! Checks streams: their server, their configuration, and how they compare with what Postgres has.

use std::time::Duration;

use anyhow::{bail, ensure};
use async_nats::jetstream::{
    Context, ErrorCode,
    context::{GetStreamError, GetStreamErrorKind},
    stream::{Config, DiscardPolicy, Info, Republish, RetentionPolicy, StorageType},
};
use log::{StreamDescription, StreamState};
use protocol::{id::Shard, subject};

use crate::{config::StreamArgs, database::unix_nanos};

/// How long the broker remembers a message id: within this time it stores no second event with it.
pub(super) const DUPLICATE_WINDOW: Duration = Duration::from_secs(60);

/// Refuses replicas on servers whose clusters lose or duplicate writes.
pub(crate) fn require_safe_server(client: &async_nats::Client, replicas: u8) -> anyhow::Result<()> {
    if replicas > 1 && !client.is_server_compatible(2, 12, 3) {
        bail!(
            "ROOMCAST_REPLICAS is {replicas}, but the broker is {}: before 2.12.3 a cluster can lose \
             acknowledged writes and let two compare-and-sets win; use 1 replica or a newer broker",
            client.server_info().version
        );
    }
    Ok(())
}

/// `max_message_size`, in bytes, of a stream that refuses appends: every event is larger.
pub(super) const MESSAGE_SIZE_REFUSING_APPENDS: i32 = 1;

/// `max_message_size` of a stream that accepts whatever the broker accepts.
pub(super) const MESSAGE_SIZE_UNLIMITED: i32 = -1;

/// Whether the broker has answered that there is no such stream.
pub(crate) fn is_stream_not_found(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<GetStreamError>()).any(|error| {
        matches!(error.kind(), GetStreamErrorKind::JetStream(broker_error)
                 if broker_error.error_code() == ErrorCode::STREAM_NOT_FOUND)
    })
}

/// Asks the leader for the stream of a shard; `None` if there is none.
pub(crate) async fn find_stream(jetstream: &Context, shard: Shard) -> anyhow::Result<Option<Info>> {
    match jetstream.get_stream(subject::stream(shard)).await.map_err(anyhow::Error::new) {
        Ok(stream) => Ok(Some(stream.cached_info().clone())),
        Err(error) if is_stream_not_found(&error) => Ok(None),
        Err(error) => Err(error.context(format!("stream {}", subject::stream(shard)))),
    }
}

pub(super) fn require_wanted_config(args: &StreamArgs, shard: Shard, found: &Config) -> anyhow::Result<()> {
    let (source, destination) = subject::stream_republish(shard);
    let republish = Republish { source, destination, headers_only: false };
    let name = &found.name;
    ensure!(
        found.republish.as_ref() == Some(&republish),
        "{name} does not republish {} to {}: {:?}",
        republish.source,
        republish.destination,
        found.republish
    );
    ensure!(found.subjects == [subject::stream_capture(shard)], "{name} captures {:?}", found.subjects);
    ensure!(found.discard == DiscardPolicy::New, "{name} drops old events when it is full");
    ensure!(found.retention == RetentionPolicy::Limits, "{name} does not keep events until they are purged");
    ensure!(found.storage == StorageType::File, "{name} stores events in memory, not in files");
    ensure!(found.max_age.is_zero(), "{name} drops events by age");
    ensure!(
        found.duplicate_window == DUPLICATE_WINDOW,
        "{name} remembers message ids for {:?}, not {DUPLICATE_WINDOW:?}",
        found.duplicate_window
    );
    ensure!(
        found.num_replicas == usize::from(args.replicas),
        "{name} has {} replicas, not {}",
        found.num_replicas,
        args.replicas
    );
    Ok(())
}

/// Whether a stream accepts appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppendPolicy {
    /// It stores them.
    Accepted,
    /// It answers every append with an error, because it is being repaired.
    Refused,
}

/// The broker process on which a stream was last checked, from the stream's description.
pub(crate) fn verified_on_broker(config: &Config) -> Option<String> {
    let description: StreamDescription = config.description.as_deref().unwrap_or("").parse().ok()?;
    description.broker
}

/// Whether a stream accepts appends. A stream that refuses them was left by an interrupted repair.
pub(crate) const fn append_policy(config: &Config) -> AppendPolicy {
    if config.max_message_size == MESSAGE_SIZE_REFUSING_APPENDS {
        AppendPolicy::Refused
    } else {
        AppendPolicy::Accepted
    }
}

/// How a shard's log compares with the watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogVerdict {
    /// The log has the events that follow the watermark.
    Continues,
    /// The log ends before the watermark.
    Shorter,
    /// The log's event at the watermark is not the one that was applied.
    Rewritten,
    /// The log has lost events that Postgres lacks.
    Hole {
        /// The first lost event.
        from: u64,
        /// The last lost event.
        to: u64,
    },
}

/// Compares a log with the watermark. `is_same_event` says whether the log's event at the watermark is the one that was
/// applied.
pub(crate) const fn compare_log(
    first: u64,
    last: u64,
    watermark_seq: u64,
    is_same_event: bool,
) -> LogVerdict {
    if last < watermark_seq {
        LogVerdict::Shorter
    } else if first > watermark_seq + 1 {
        LogVerdict::Hole { from: watermark_seq + 1, to: first - 1 }
    } else if is_same_event {
        LogVerdict::Continues
    } else {
        LogVerdict::Rewritten
    }
}

/// The last event of a shard that Postgres has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastApplied {
    /// Its sequence; 0 if there is none.
    pub(crate) seq: u64,
    /// When the broker stored it, in nanoseconds since 1970; `None` if unknown.
    pub(crate) stored_at_ns: Option<i64>,
}

/// The stream of a shard, and how it compares with the watermark.
pub(crate) struct LogComparison {
    pub(crate) info: Info,
    pub(crate) state: StreamState,
    pub(crate) verdict: LogVerdict,
}

impl LogComparison {
    /// Reads a shard's stream and compares it; `None` if there is none. Changes nothing.
    pub(crate) async fn read(
        jetstream: &Context,
        shard: Shard,
        last_applied: LastApplied,
    ) -> anyhow::Result<Option<Self>> {
        let Some(info) = find_stream(jetstream, shard).await? else { return Ok(None) };
        let state = StreamState::try_from(&info)?;
        let is_same_event = match last_applied.stored_at_ns {
            Some(stored_at) if (state.first..=state.last).contains(&last_applied.seq) => {
                let stored = log::get(jetstream, shard, last_applied.seq).await?;
                stored.is_none_or(|stored| unix_nanos(stored.time) == stored_at)
            }
            _ => true,
        };
        let verdict = compare_log(state.first, state.last, last_applied.seq, is_same_event);
        Ok(Some(Self { info, state, verdict }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compare_log_distinguishes_continued_shorter_rewritten_and_holed_logs() {
        for (first, last, watermark) in [(1, 0, 0), (1, 9, 0), (1, 9, 9), (10, 9, 9), (5, 9, 4), (10, 20, 9)]
        {
            let verdict = compare_log(first, last, watermark, true);
            assert_eq!(verdict, LogVerdict::Continues, "{first} {last} {watermark}");
        }
        for (first, last, watermark) in [(1, 0, 9), (3, 8, 9), (9, 8, 9)] {
            assert_eq!(
                compare_log(first, last, watermark, true),
                LogVerdict::Shorter,
                "{first} {last} {watermark}"
            );
        }
        assert_eq!(compare_log(12, 20, 9, true), LogVerdict::Hole { from: 10, to: 11 });
        assert_eq!(compare_log(12, 11, 9, true), LogVerdict::Hole { from: 10, to: 11 });
        assert_eq!(compare_log(1, 20, 9, false), LogVerdict::Rewritten);
    }
}
