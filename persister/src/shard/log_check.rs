//! Does the log go on where Postgres ends, and is it the log that Postgres knows? Asked before
//! reading, and after each loss of the broker.
//!
//! What must hold: an id that Postgres has is never given again, and within an epoch no id is given
//! twice. So the epoch goes up when the log
//! - ends before what Postgres has, or before what it was ever seen to have in this epoch: a broker
//!   of one replica that lost power has lost up to what it had not synced, a minute by default;
//! - holds another event than the one that was applied at the watermark: it was shorter, and has
//!   grown over it since;
//! - says an older epoch than Postgres remembers: it is an older copy;
//! - is on a host that has booted since (a single replica whose host's boot id is known).
//!
//! The new epoch is noted in Postgres before it is written into the stream: where this stops half way,
//! the stream is found to say an older one, and the epoch goes up once more. A stream that must
//! be moved on takes no append meanwhile.
//!
//! A single broker that was started anew is appended to only after this look: what the look ends with is
//! the broker's process, written into the stream, and api waits for that. What is appended all the same, by
//! whoever does not wait, under an id that Postgres has, is noted in `rejected_event`, not dropped.
//!
//! What api and fanout saw of the log counts as what this process saw: they say it when they come back to
//! the broker, which is waited for a moment, and looked at again when they say it later.

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

/// How long others are given to say how far they saw a log, when its broker was started anew: they come
/// back to it within a fraction of that.
const LOG_END_REPORTS_WAIT: Duration = Duration::from_secs(1);

/// The epoch that a log is to have. `seen` is its last event as this process saw it in this epoch.
fn next_epoch(
    watermark: &Watermark,
    state: &StreamState,
    is_rewound: bool,
    highest_seen: u64,
    boot_id: Option<&str>,
) -> u64 {
    let known = watermark.epoch.max(state.epoch);
    let seen =
        if watermark.epoch == state.epoch { highest_seen.max(watermark.highest_seen) } else { highest_seen };
    let booted = matches!((watermark.boot_id.as_deref(), boot_id), (Some(then), Some(now)) if then != now);
    if is_rewound || booted || state.epoch < watermark.epoch || state.last < seen { known + 1 } else { known }
}

impl ShardWorker {
    /// Looks at the shard's two ends, and makes them meet: reading goes on after this place, in its epoch.
    pub(crate) async fn verify_log(&self) -> Result<Watermark, ShardError> {
        let (mut watermark, mut comparison) = self.read_watermark_and_log().await?;
        // Known by now, since the broker has answered; and known before what counts is asked.
        let broker = nats::single_broker(&self.client);
        let is_new = |comparison: &LogComparison| {
            broker.is_some() && verify::verified_on_broker(&comparison.info.config) != broker
        };
        if let Some(found) = comparison.as_ref().filter(|comparison| is_new(comparison)) {
            if !watermark.has_no_events() || found.state.last > 0 {
                tokio::time::sleep(LOG_END_REPORTS_WAIT).await;
            }
            (watermark, comparison) = self.read_watermark_and_log().await?;
        }
        let is_verified = comparison.as_ref().is_some_and(|comparison| !is_new(comparison));
        let Some(LogComparison { info, state, verdict }) = comparison else {
            return Err(ShardError::Refused(format!(
                "the log is gone, Postgres has its events up to {}: `roomcast recover` makes a new one",
                watermark.seq
            )));
        };
        if let LogVerdict::Hole { from, to } = verdict {
            return Err(self.hole_error(from, to));
        }
        let is_rewound = verdict != LogVerdict::Continues;
        let seen = self.highest_seen.in_epoch(state.epoch);
        let boot_id = self.boot_id.as_deref();
        let epoch = next_epoch(&watermark, &state, is_rewound, seen, boot_id);
        if epoch != watermark.epoch || (boot_id.is_some() && watermark.boot_id.as_deref() != boot_id) {
            let mut writer = self.batch_sessions.take().await?;
            watermark::begin_epoch(writer.session(), self.shard, &watermark, epoch, state.last, boot_id)
                .await?;
            writer.give_back();
        }
        if is_rewound {
            repair::write_epoch(&self.jetstream, &info.config, epoch, None, AppendPolicy::Refused).await?;
            self.reject_events_with_taken_ids(&watermark).await?;
            if verdict == LogVerdict::Shorter {
                log::purge_below(&self.jetstream, self.shard, watermark.seq + 1).await?;
            }
        }
        let closed = verify::append_policy(&info.config) == AppendPolicy::Refused;
        if is_rewound || epoch != state.epoch || closed || !is_verified {
            let broker = broker.as_deref();
            repair::write_epoch(&self.jetstream, &info.config, epoch, broker, AppendPolicy::Accepted).await?;
        }
        if epoch > state.epoch {
            self.metrics.repairs.increment(1);
            tracing::warn!(shard = %self.shard, ?verdict, watermark = watermark.seq, last = state.last,
                seen = seen.max(watermark.highest_seen), epoch, "the log is not the one that Postgres knew: a new epoch");
        }
        self.highest_seen.note(epoch, state.last.max(watermark.seq));
        watermark.epoch = epoch;
        Ok(watermark)
    }

    /// The shard's two ends as they are; a log that was never there is made.
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

    /// Keeps what was appended to a log that had lost its end, under ids that Postgres has: a person
    /// must look at it.
    async fn reject_events_with_taken_ids(&self, watermark: &Watermark) -> anyhow::Result<()> {
        let Some(stored_at) = watermark.stored_at_ns else { return Ok(()) };
        // Again: until the stream was closed there may have come more.
        let state = log::state(&self.jetstream, self.shard).await?;
        let last = state.last.min(watermark.seq);
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(stored_at))?;
        let mut strays = Vec::new();
        let known = if state.messages == 0 || last < state.first {
            last
        } else {
            retention::last_stored_before(&self.jetstream, self.shard, state.first, last, moment).await?
        };
        for seq in known.max(state.first - 1) + 1..=last {
            if let Some(stray) = log::get(&self.jetstream, self.shard, seq).await? {
                tracing::error!(shard = %self.shard, seq, subject = stray.subject, "event rejected: its id was taken");
                strays.push(RejectedEvent::new(
                    &stray,
                    RejectionCause::IdTaken,
                    "appended after the log lost events, under an id that was taken",
                ));
            }
        }
        let mut writer = self.batch_sessions.take().await?;
        rejected_rows::insert(writer.session(), self.shard, &strays).await?;
        watermark::clear_stored_at(writer.session(), self.shard, watermark.seq).await?;
        writer.give_back();
        self.metrics.rejected_events.increment(u64::try_from(strays.len())?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_goes_up_when_ids_may_be_given_twice() {
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
        assert_eq!(next_epoch(&watermark, &state(2, 9), false, 9, Some("a")), 2, "nothing happened");
        assert_eq!(next_epoch(&watermark, &state(2, 9), false, 9, None), 2, "no boot is known");
        assert_eq!(next_epoch(&watermark, &state(2, 9), true, 9, Some("a")), 3, "it lost what Postgres has");
        assert_eq!(
            next_epoch(&watermark, &state(2, 8), false, 0, Some("a")),
            3,
            "it lost what was once seen"
        );
        assert_eq!(
            next_epoch(&watermark, &state(2, 9), false, 10, Some("a")),
            3,
            "it lost what this process saw"
        );
        assert_eq!(next_epoch(&watermark, &state(2, 9), false, 9, Some("b")), 3, "its host has booted");
        assert_eq!(next_epoch(&watermark, &state(1, 50), false, 0, Some("a")), 3, "an older copy");
        assert_eq!(next_epoch(&watermark, &state(4, 6), false, 6, Some("a")), 4, "an older dump");
        assert_eq!(
            next_epoch(&Watermark::default(), &state(1, 0), false, 0, Some("a")),
            1,
            "a new deployment"
        );
    }
}
