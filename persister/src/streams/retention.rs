//! Trims from the log what Postgres has: the old, and as much more as keeps the stream half empty.
//!
//! What must hold: nothing goes that Postgres has not got, nor that is so young that its message
//! id must still be known. Nothing is remembered: each round asks the log for its own times.

use std::time::Duration;

use async_nats::jetstream::Context;
use log::StreamState;
use protocol::id::Shard;
use time::OffsetDateTime;

/// Longer than the broker knows a message id for.
const AGE_MIN: Duration = Duration::from_secs(90);
/// What a question for one event, a step of the search, may take at most in all: 2^40 events.
const SEARCH_STEPS_MAX: u32 = 40;

/// Up to which sequence the log can go, if any of it can.
///
/// `settled` is the last event that is no longer young, `expired` the last one older than the
/// replay window; 0 where there is none. The last event always stays: the broker keeps its place
/// by it.
pub(crate) fn purgeable_up_to(
    state: &StreamState,
    watermark_seq: u64,
    last_old_enough: u64,
    last_expired: u64,
) -> Option<u64> {
    let half = state.max_bytes / 2;
    let crowded = if state.max_bytes > 0 && state.bytes > half {
        let excess = u128::from(state.bytes - half);
        // As many events as hold the excess, where all are of a size: the next round does the rest.
        let events = (u128::from(state.messages) * excess).div_ceil(u128::from(state.bytes));
        (state.first - 1).saturating_add(u64::try_from(events).unwrap_or(u64::MAX))
    } else {
        0
    };
    let upto =
        crowded.max(last_expired).min(watermark_seq).min(last_old_enough).min(state.last.saturating_sub(1));
    (upto >= state.first).then_some(upto)
}

/// One round on one shard: how many events went.
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
    let now = OffsetDateTime::now_utc();
    let expired =
        last_stored_before(jetstream, shard, state.first, last, now - replay_window.max(AGE_MIN)).await?;
    let crowded = state.max_bytes > 0 && state.bytes > state.max_bytes / 2;
    let settled = if crowded {
        last_stored_before(jetstream, shard, state.first.max(expired), last, now - AGE_MIN)
            .await?
            .max(expired)
    } else {
        expired
    };
    let Some(upto) = purgeable_up_to(state, watermark_seq, settled, expired) else { return Ok(0) };
    log::purge_below(jetstream, shard, upto + 1).await?;
    tracing::debug!(%shard, upto, "purged");
    Ok(upto + 1 - state.first)
}

/// The last event of `first..=last` that was stored by then; 0 where there is none. Times go up
/// with sequences, but for a clock set back, which makes this keep more or less of what is old
/// anyway.
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
        // What is not there has gone before: it was old.
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
    fn only_what_postgres_has_and_is_old_goes() {
        let log = state(101, 200, 400);
        assert_eq!(purgeable_up_to(&log, 200, 180, 150), Some(150));
        assert_eq!(purgeable_up_to(&log, 120, 180, 150), Some(120), "not what Postgres has not got");
        assert_eq!(purgeable_up_to(&log, 200, 0, 0), None, "nothing is old");
        assert_eq!(purgeable_up_to(&log, 100, 180, 150), None, "Postgres has none of it");
        assert_eq!(purgeable_up_to(&log, 200, 200, 200), Some(199), "the last stays");
    }

    #[test]
    fn a_crowded_log_gives_up_the_replay_window_but_not_the_young() {
        let log = state(101, 200, 1_000);
        assert_eq!(purgeable_up_to(&log, 200, 180, 0), Some(150), "half of it");
        assert_eq!(purgeable_up_to(&log, 200, 120, 0), Some(120), "the rest is young");
        assert_eq!(purgeable_up_to(&log, 200, 190, 170), Some(170), "what is old goes all the same");
        let unlimited = StreamState { max_bytes: 0, ..log };
        assert_eq!(purgeable_up_to(&unlimited, 200, 180, 0), None);
    }
}
