//! Trims the log: removes old events that Postgres has, and younger ones while the stream is more than half full.
//!
//! What must hold: an event is removed only once Postgres has it, and once it is older than the broker's memory of its
//! message id. No state is kept between rounds: each one reads the times from the log.

use std::time::Duration;

use async_nats::jetstream::Context;
use log::StreamState;
use protocol::{clock::Timestamp, id::Shard};
use time::OffsetDateTime;

/// Minimum age of a removed event: longer than the broker remembers a message id.
const AGE_MIN: Duration = Duration::from_secs(90);
/// Maximum steps of the binary search, each of which requests one event: enough for 2^40 events.
const SEARCH_STEPS_MAX: u32 = 40;

/// The last sequence up to which events can be removed, if any can.
///
/// `last_old_enough` is the last event older than [`AGE_MIN`], `last_expired` the last one older than the replay
/// window; each is 0 if there is none. The stream's last event always stays, because the broker keeps its sequence by
/// it.
pub(crate) fn purgeable_up_to(
    state: &StreamState,
    watermark_seq: u64,
    last_old_enough: u64,
    last_expired: u64,
) -> Option<u64> {
    let half_bytes = state.max_bytes / 2;
    let crowded_up_to = if state.max_bytes > 0 && state.bytes > half_bytes {
        let excess_bytes = u128::from(state.bytes - half_bytes);
        // The number of events that hold the excess, if all have the same size; the next round removes the rest.
        let events = (u128::from(state.messages) * excess_bytes).div_ceil(u128::from(state.bytes));
        (state.first - 1).saturating_add(u64::try_from(events).unwrap_or(u64::MAX))
    } else {
        0
    };
    let up_to = crowded_up_to
        .max(last_expired)
        .min(watermark_seq)
        .min(last_old_enough)
        .min(state.last.saturating_sub(1));
    (up_to >= state.first).then_some(up_to)
}

/// Runs one round on one shard. Returns the number of removed events.
pub(crate) async fn trim_stream(
    jetstream: &Context,
    shard: Shard,
    state: &StreamState,
    watermark_seq: u64,
    replay_window: Duration,
) -> anyhow::Result<u64> {
    let last = state.last.min(watermark_seq);
    if state.messages == 0 || last < state.first {
        return Ok(0);
    }
    let now = OffsetDateTime::from(Timestamp::now());
    let last_expired =
        last_stored_before(jetstream, shard, state.first, last, now - replay_window.max(AGE_MIN)).await?;
    let is_crowded = state.max_bytes > 0 && state.bytes > state.max_bytes / 2;
    let last_old_enough = if is_crowded {
        last_stored_before(jetstream, shard, state.first.max(last_expired), last, now - AGE_MIN)
            .await?
            .max(last_expired)
    } else {
        last_expired
    };
    let Some(up_to) = purgeable_up_to(state, watermark_seq, last_old_enough, last_expired) else {
        return Ok(0);
    };
    log::purge_below(jetstream, shard, up_to + 1).await?;
    tracing::debug!(%shard, up_to, "log trimmed");
    Ok(up_to + 1 - state.first)
}

/// The last event of `first..=last` that was stored at or before `moment`; 0 if there is none. Times increase with
/// sequences, except after a clock was set back: then somewhat more or fewer of the old events are kept.
pub(crate) async fn last_stored_before(
    jetstream: &Context,
    shard: Shard,
    first: u64,
    last: u64,
    moment: OffsetDateTime,
) -> anyhow::Result<u64> {
    let (mut old, mut young) = (first - 1, last + 1);
    let mut probe = first;
    for _ in 0..SEARCH_STEPS_MAX {
        // A missing event was removed before, so it was old.
        let stored = log::get(jetstream, shard, probe).await?;
        if stored.is_none_or(|stored| stored.time <= moment) {
            old = probe;
        } else {
            young = probe;
        }
        if young - old <= 1 {
            break;
        }
        probe = old + (young - old) / 2;
    }
    Ok(if old < first { 0 } else { old })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(first: u64, last: u64, bytes: u64) -> StreamState {
        StreamState {
            first,
            last,
            epoch: 1,
            messages: last + 1 - first,
            bytes,
            max_bytes: 1_000,
            replicas: 1,
        }
    }

    #[test]
    fn events_are_trimmed_only_if_applied_and_old() {
        let log = state(101, 200, 400);
        assert_eq!(purgeable_up_to(&log, 200, 180, 150), Some(150));
        assert_eq!(purgeable_up_to(&log, 120, 180, 150), Some(120), "not what Postgres lacks");
        assert_eq!(purgeable_up_to(&log, 200, 0, 0), None, "nothing is old");
        assert_eq!(purgeable_up_to(&log, 100, 180, 150), None, "Postgres has none of it");
        assert_eq!(purgeable_up_to(&log, 200, 200, 200), Some(199), "the last event always stays");
    }

    #[test]
    fn log_over_half_full_gives_up_the_replay_window_but_keeps_young_events() {
        let log = state(101, 200, 1_000);
        assert_eq!(purgeable_up_to(&log, 200, 180, 0), Some(150), "down to half of the maximum");
        assert_eq!(purgeable_up_to(&log, 200, 120, 0), Some(120), "the other events are too young");
        assert_eq!(
            purgeable_up_to(&log, 200, 190, 170),
            Some(170),
            "expired events are removed even if half of the maximum is reached with fewer"
        );
        let unlimited = StreamState { max_bytes: 0, ..log };
        assert_eq!(purgeable_up_to(&unlimited, 200, 180, 0), None);
    }
}
