//! Compares a shard's log with what Postgres has, before reading it and after each loss of the broker, and repairs it.
//!
//! What must hold: an id that Postgres has is never assigned again, and within an epoch no id is assigned twice. So the
//! epoch is raised when the log
//! - ends before what Postgres has, or before the last event that was ever seen in it in this epoch: a broker of one
//!   replica that lost power has lost what it had not synced, up to a minute by default;
//! - has another event at the watermark than the one that was applied: it was shorter, and has grown since;
//! - has an older epoch than Postgres remembers: it is an older copy;
//! - is on a host that has booted since (for a single replica whose host's boot id is known).
//!
//! The new epoch is written to Postgres before it is written into the stream. If this is interrupted, the stream is
//! found with an older epoch, and the epoch is raised once more. A stream that is shorter, or was rewritten, refuses
//! appends until it is repaired.
//!
//! A single broker that was restarted gets appends only after this check: the check ends by writing the id of the
//! broker's process into the stream, for which api waits. Events that are appended nevertheless under an id that
//! Postgres has are recorded in `rejected_event`, not dropped.
//!
//! What api and fanout saw of the log counts like what this process saw. They report it when they reconnect to the
//! broker. The check waits a moment for these reports, and is repeated when a report arrives that has a later event.

use std::time::Duration;

use log::StreamState;
use service::nats;
use time::OffsetDateTime;

use crate::{
    shard::{
        apply::{
            rejected_event::{RejectedEvent, RejectionCause},
            rejected_rows,
        },
        watermark::{self, Watermark},
        worker::{ShardError, ShardWorker},
    },
    streams::{
        ensure, repair, retention,
        verify::{self, AppendPolicy, LogComparison, LogVerdict},
    },
};

/// How long api and fanout have, after their broker was restarted, to report how far they saw a log. They reconnect
/// within a fraction of that.
const LOG_END_REPORTS_WAIT: Duration = Duration::from_secs(1);

/// The epoch that a log must have. `highest_seen` is its last event as this process saw it in the stream's epoch.
fn next_epoch(
    watermark: &Watermark,
    state: &StreamState,
    is_rewound: bool,
    highest_seen: u64,
    boot_id: Option<&str>,
) -> u64 {
    let highest_epoch = watermark.epoch.max(state.epoch);
    let highest_seen =
        if watermark.epoch == state.epoch { highest_seen.max(watermark.highest_seen) } else { highest_seen };
    let has_rebooted =
        boot_id.is_some_and(|current| watermark.boot_id.as_deref().is_some_and(|known| known != current));
    if is_rewound || has_rebooted || state.epoch < watermark.epoch || state.last < highest_seen {
        highest_epoch + 1
    } else {
        highest_epoch
    }
}

impl ShardWorker {
    /// Compares the shard's log with the watermark, and repairs the log. Returns the watermark after which reading
    /// continues, with the log's epoch.
    pub(crate) async fn verify_log(&self) -> Result<Watermark, ShardError> {
        let (mut watermark, mut comparison) = self.read_watermark_and_log().await?;
        // Known by now, since the broker has answered. Taken before the state that counts is read.
        let broker = nats::single_broker(&self.client);
        let is_unverified = |comparison: &LogComparison| {
            broker.is_some() && verify::verified_on_broker(&comparison.info.config) != broker
        };
        if let Some(unverified) = comparison.as_ref().filter(|comparison| is_unverified(comparison)) {
            if !watermark.has_no_events() || unverified.state.last > 0 {
                tokio::time::sleep(LOG_END_REPORTS_WAIT).await;
            }
            (watermark, comparison) = self.read_watermark_and_log().await?;
        }
        let is_verified = comparison.as_ref().is_some_and(|comparison| !is_unverified(comparison));
        let Some(LogComparison { info, state, verdict }) = comparison else {
            return Err(ShardError::Refused(format!(
                "the log is gone, Postgres has its events up to {}: `roomcast recover` creates a new one",
                watermark.seq
            )));
        };
        if let LogVerdict::Hole { from, to } = verdict {
            return Err(self.hole_error(from, to));
        }
        let is_rewound = verdict != LogVerdict::Continues;
        let highest_seen = self.highest_seen.in_epoch(state.epoch);
        let boot_id = self.boot_id.as_deref();
        let epoch = next_epoch(&watermark, &state, is_rewound, highest_seen, boot_id);
        if epoch != watermark.epoch || (boot_id.is_some() && watermark.boot_id.as_deref() != boot_id) {
            let mut pooled = self.batch_sessions.take().await?;
            watermark::begin_epoch(pooled.session(), self.shard, &watermark, epoch, state.last, boot_id)
                .await?;
            pooled.give_back();
        }
        if is_rewound {
            repair::write_epoch(&self.jetstream, &info.config, epoch, None, AppendPolicy::Refused).await?;
            self.reject_events_with_taken_ids(&watermark).await?;
            if verdict == LogVerdict::Shorter {
                log::purge_below(&self.jetstream, self.shard, watermark.seq + 1).await?;
            }
        }
        let refuses_appends = verify::append_policy(&info.config) == AppendPolicy::Refused;
        if is_rewound || epoch != state.epoch || refuses_appends || !is_verified {
            let broker = broker.as_deref();
            repair::write_epoch(&self.jetstream, &info.config, epoch, broker, AppendPolicy::Accepted).await?;
        }
        if epoch > state.epoch {
            self.metrics.repairs.increment(1);
            tracing::warn!(
                shard = %self.shard,
                ?verdict,
                watermark = watermark.seq,
                last = state.last,
                highest_seen = highest_seen.max(watermark.highest_seen),
                epoch,
                "the log is not the one that Postgres knew: its epoch was raised"
            );
        }
        self.highest_seen.note(epoch, state.last.max(watermark.seq));
        watermark.epoch = epoch;
        Ok(watermark)
    }

    /// Reads the watermark, and compares the log with it. Creates the stream of a shard that never had events.
    async fn read_watermark_and_log(&self) -> anyhow::Result<(Watermark, Option<LogComparison>)> {
        let watermark = self.read_watermark().await?;
        let mut comparison =
            LogComparison::read(&self.jetstream, self.shard, watermark.last_applied()).await?;
        if comparison.is_none() && watermark.has_no_events() {
            ensure::ensure_stream(&self.jetstream, &self.stream_args, self.shard, watermark.first_epoch())
                .await?;
            comparison = LogComparison::read(&self.jetstream, self.shard, watermark.last_applied()).await?;
        }
        Ok((watermark, comparison))
    }

    /// Records, for an operator, events that were appended to a log that had lost its end, under ids that Postgres has.
    async fn reject_events_with_taken_ids(&self, watermark: &Watermark) -> anyhow::Result<()> {
        let Some(stored_at) = watermark.stored_at_ns else { return Ok(()) };
        // Read again: more may have been appended until the stream refused appends.
        let state = log::state(&self.jetstream, self.shard).await?;
        let last = state.last.min(watermark.seq);
        let stored_at_watermark = OffsetDateTime::from_unix_timestamp_nanos(i128::from(stored_at))?;
        let mut rejected = Vec::new();
        let last_known = if state.messages == 0 || last < state.first {
            last
        } else {
            retention::last_stored_before(&self.jetstream, self.shard, state.first, last, stored_at_watermark)
                .await?
        };
        for seq in last_known.max(state.first - 1) + 1..=last {
            if let Some(event) = log::get(&self.jetstream, self.shard, seq).await? {
                tracing::error!(
                    shard = %self.shard,
                    seq,
                    subject = event.subject,
                    "event rejected: another event has its id"
                );
                rejected.push(RejectedEvent::new(
                    &event,
                    RejectionCause::IdTaken,
                    "appended after the log lost events, under an id that was taken",
                ));
            }
        }
        let mut pooled = self.batch_sessions.take().await?;
        rejected_rows::insert(pooled.session(), self.shard, &rejected).await?;
        watermark::clear_stored_at(pooled.session(), self.shard, watermark.seq).await?;
        pooled.give_back();
        self.metrics.rejected_events.increment(u64::try_from(rejected.len())?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_rises_when_ids_may_have_been_assigned_twice() {
        let state = |epoch, last| StreamState {
            first: 1,
            last,
            epoch,
            messages: last,
            bytes: 0,
            max_bytes: 0,
            replicas: 1,
        };
        let watermark = Watermark {
            seq: 5,
            epoch: 2,
            highest_seen: 9,
            stored_at_ns: None,
            boot_id: Some("a".to_owned()),
        };
        assert_eq!(next_epoch(&watermark, &state(2, 9), false, 9, Some("a")), 2, "the log is unchanged");
        assert_eq!(next_epoch(&watermark, &state(2, 9), false, 9, None), 2, "the host's boot id is unknown");
        assert_eq!(
            next_epoch(&watermark, &state(2, 9), true, 9, Some("a")),
            3,
            "the log lost events that Postgres has"
        );
        assert_eq!(
            next_epoch(&watermark, &state(2, 8), false, 0, Some("a")),
            3,
            "the log lost events that were seen earlier"
        );
        assert_eq!(
            next_epoch(&watermark, &state(2, 9), false, 10, Some("a")),
            3,
            "the log lost events that this process has seen"
        );
        assert_eq!(
            next_epoch(&watermark, &state(2, 9), false, 9, Some("b")),
            3,
            "the broker's host has booted again"
        );
        assert_eq!(next_epoch(&watermark, &state(1, 50), false, 0, Some("a")), 3, "an older copy of the log");
        assert_eq!(next_epoch(&watermark, &state(4, 6), false, 6, Some("a")), 4, "an older copy of Postgres");
        assert_eq!(
            next_epoch(&Watermark::default(), &state(1, 0), false, 0, Some("a")),
            1,
            "a new deployment"
        );
    }
}
