//! Does the log go on where Postgres ends? Asked before reading, after each loss of the broker.
//!
//! What must hold: an id that Postgres has is never given again. A log that is shorter than
//! Postgres (a power cut: the broker syncs once a minute) is moved on; one with a hole is refused.

use anyhow::ensure;
use async_nats::jetstream::Context;
use shared::{
    id::Shard,
    log::{self, StreamState},
};

use crate::streams;

/// What the two say of each other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The log goes on where Postgres ends.
    Continues,
    /// Postgres has events that the log has lost.
    Shorter,
    /// The log has lost events that Postgres has not got.
    Hole {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
}

/// Compares them.
pub(crate) const fn judge(first: u64, last: u64, watermark: u64) -> Verdict {
    if last < watermark {
        Verdict::Shorter
    } else if first > watermark + 1 {
        Verdict::Hole { from: watermark + 1, to: first - 1 }
    } else {
        Verdict::Continues
    }
}

/// Moves a shorter log on to where Postgres ends, in a new epoch.
///
/// The epoch goes up first: where this stops half way, the next try finds the log still shorter.
pub(crate) async fn lengthen(
    jetstream: &Context,
    shard: Shard,
    watermark: u64,
) -> anyhow::Result<StreamState> {
    let before = log::state(jetstream, shard).await?;
    let epoch = streams::next_epoch(jetstream, shard).await?;
    log::purge_below(jetstream, shard, watermark + 1).await?;
    let after = log::state(jetstream, shard).await?;
    ensure!(
        after.last >= watermark && after.first <= watermark + 1,
        "the log of shard {shard} ended at {} and was to go on at {}, but holds {} to {}",
        before.last,
        watermark + 1,
        after.first,
        after.last
    );
    tracing::warn!(%shard, lost_from = before.last + 1, lost_to = watermark, epoch,
        "the log was shorter than Postgres: moved on, in a new epoch");
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_continues_is_shorter_or_has_a_hole() {
        for (first, last, watermark) in [(1, 0, 0), (1, 9, 0), (1, 9, 9), (10, 9, 9), (5, 9, 4), (10, 20, 9)]
        {
            assert_eq!(judge(first, last, watermark), Verdict::Continues, "{first} {last} {watermark}");
        }
        for (first, last, watermark) in [(1, 0, 9), (3, 8, 9), (9, 8, 9)] {
            assert_eq!(judge(first, last, watermark), Verdict::Shorter, "{first} {last} {watermark}");
        }
        assert_eq!(judge(12, 20, 9), Verdict::Hole { from: 10, to: 11 });
        assert_eq!(judge(12, 11, 9), Verdict::Hole { from: 10, to: 11 });
    }
}
