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

use async_nats::jetstream::stream::Info;
use log::StreamState;
use service::nats;
use time::OffsetDateTime;

use crate::{
    apply::rejected,
    rejection::{Cause, Rejected},
    retention,
    streams::{self, Appends},
    watermark::{self, Place},
    worker::{Trouble, Worker},
};

/// How long others are given to say how far they saw a log, when its broker was started anew: they come
/// back to it within a fraction of that.
const WORDS: Duration = Duration::from_secs(1);

/// What the two say of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The log goes on where Postgres ends.
    Continues,
    /// Postgres has events that the log has lost.
    Shorter,
    /// The log has another event at the watermark than the one that was applied.
    Rewritten,
    /// The log has lost events that Postgres has not got.
    Hole {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
}

/// Compares them. `same` says whether the log's event at the watermark is the one that was applied.
pub(crate) const fn judge(first: u64, last: u64, watermark: u64, same: bool) -> Verdict {
    if last < watermark {
        Verdict::Shorter
    } else if first > watermark + 1 {
        Verdict::Hole { from: watermark + 1, to: first - 1 }
    } else if same {
        Verdict::Continues
    } else {
        Verdict::Rewritten
    }
}

/// The epoch that a log is to have. `seen` is its last event as this process saw it in this epoch.
fn epoch(place: &Place, state: &StreamState, rewound: bool, seen: u64, boot: Option<&str>) -> u64 {
    let known = place.epoch.max(state.epoch);
    let seen = if place.epoch == state.epoch { seen.max(place.seen) } else { seen };
    let booted = matches!((place.boot.as_deref(), boot), (Some(then), Some(now)) if then != now);
    if rewound || booted || state.epoch < place.epoch || state.last < seen { known + 1 } else { known }
}

/// A log that is there, judged.
pub(crate) struct Judged {
    pub(crate) info: Info,
    pub(crate) state: StreamState,
    pub(crate) verdict: Verdict,
}

impl Judged {
    /// Judges the log of a shard; `None` where there is none. Changes nothing.
    pub(crate) async fn of(
        jetstream: &async_nats::jetstream::Context,
        shard: protocol::id::Shard,
        place: &Place,
    ) -> anyhow::Result<Option<Self>> {
        let Some(info) = streams::find(jetstream, shard).await? else { return Ok(None) };
        let state = StreamState::try_from(&info)?;
        let same = match place.stored_at {
            Some(stored_at) if (state.first..=state.last).contains(&place.seq) => {
                let found = log::get(jetstream, shard, place.seq).await?;
                found.is_none_or(|found| watermark::nanoseconds(found.time) == stored_at)
            }
            _ => true,
        };
        let verdict = judge(state.first, state.last, place.seq, same);
        Ok(Some(Self { info, state, verdict }))
    }
}

impl Worker {
    /// Looks at the shard's two ends, and makes them meet: reading goes on after this place, in its epoch.
    pub(crate) async fn look(&self) -> Result<Place, Trouble> {
        let (mut place, mut judged) = self.judge().await?;
        // Known by now, since the broker has answered; and known before what counts is asked.
        let broker = nats::single_broker(&self.client);
        let is_new = |judged: &Judged| broker.is_some() && streams::looked_at(&judged.info.config) != broker;
        if let Some(found) = judged.as_ref().filter(|judged| is_new(judged)) {
            if !place.is_fresh() || found.state.last > 0 {
                tokio::time::sleep(WORDS).await;
            }
            (place, judged) = self.judge().await?;
        }
        let looked = judged.as_ref().is_some_and(|judged| !is_new(judged));
        let Some(Judged { info, state, verdict }) = judged else {
            return Err(Trouble::Refused(format!(
                "the log is gone, Postgres has its events up to {}: `roomcast recover` makes a new one",
                place.seq
            )));
        };
        if let Verdict::Hole { from, to } = verdict {
            return Err(self.hole(from, to));
        }
        let rewound = verdict != Verdict::Continues;
        let seen = self.seen.in_epoch(state.epoch);
        let boot = self.boot.as_deref();
        let epoch = epoch(&place, &state, rewound, seen, boot);
        if epoch != place.epoch || (boot.is_some() && place.boot.as_deref() != boot) {
            let mut writer = self.writers.take().await?;
            watermark::begin_epoch(writer.session(), self.shard, &place, epoch, state.last, boot).await?;
            writer.give_back();
        }
        if rewound {
            streams::begin_epoch(&self.jetstream, &info.config, epoch, None, Appends::Refused).await?;
            self.note_strays(&place).await?;
            if verdict == Verdict::Shorter {
                log::purge_below(&self.jetstream, self.shard, place.seq + 1).await?;
            }
        }
        let closed = streams::appends(&info.config) == Appends::Refused;
        if rewound || epoch != state.epoch || closed || !looked {
            let broker = broker.as_deref();
            streams::begin_epoch(&self.jetstream, &info.config, epoch, broker, Appends::Taken).await?;
        }
        if epoch > state.epoch {
            self.meters.repairs.increment(1);
            tracing::warn!(shard = %self.shard, ?verdict, watermark = place.seq, last = state.last,
                seen = seen.max(place.seen), epoch, "the log is not the one that Postgres knew: a new epoch");
        }
        self.seen.note(epoch, state.last.max(place.seq));
        place.epoch = epoch;
        Ok(place)
    }

    /// The shard's two ends as they are; a log that was never there is made.
    async fn judge(&self) -> anyhow::Result<(Place, Option<Judged>)> {
        let place = self.read_place().await?;
        let mut judged = Judged::of(&self.jetstream, self.shard, &place).await?;
        if judged.is_none() && place.is_fresh() {
            streams::ensure_shard(&self.jetstream, &self.log, self.shard, &place).await?;
            judged = Judged::of(&self.jetstream, self.shard, &place).await?;
        }
        Ok((place, judged))
    }

    /// Keeps what was appended to a log that had lost its end, under ids that Postgres has: a person
    /// must look at it.
    async fn note_strays(&self, place: &Place) -> anyhow::Result<()> {
        let Some(stored_at) = place.stored_at else { return Ok(()) };
        // Again: until the stream was closed there may have come more.
        let state = log::state(&self.jetstream, self.shard).await?;
        let last = state.last.min(place.seq);
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(stored_at))?;
        let mut strays = Vec::new();
        let known = if state.messages == 0 || last < state.first {
            last
        } else {
            retention::last_before(&self.jetstream, self.shard, state.first, last, moment).await?
        };
        for seq in known.max(state.first - 1) + 1..=last {
            if let Some(stray) = log::get(&self.jetstream, self.shard, seq).await? {
                tracing::error!(shard = %self.shard, seq, subject = stray.subject, "event rejected: its id was taken");
                strays.push(Rejected::new(
                    &stray,
                    Cause::IdTaken,
                    "appended after the log lost events, under an id that was taken",
                ));
            }
        }
        let mut writer = self.writers.take().await?;
        rejected::insert(writer.session(), self.shard, &strays).await?;
        watermark::forget_event(writer.session(), self.shard, place.seq).await?;
        writer.give_back();
        self.meters.rejected.increment(u64::try_from(strays.len())?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_continues_is_shorter_rewritten_or_has_a_hole() {
        for (first, last, watermark) in [(1, 0, 0), (1, 9, 0), (1, 9, 9), (10, 9, 9), (5, 9, 4), (10, 20, 9)]
        {
            let verdict = judge(first, last, watermark, true);
            assert_eq!(verdict, Verdict::Continues, "{first} {last} {watermark}");
        }
        for (first, last, watermark) in [(1, 0, 9), (3, 8, 9), (9, 8, 9)] {
            assert_eq!(judge(first, last, watermark, true), Verdict::Shorter, "{first} {last} {watermark}");
        }
        assert_eq!(judge(12, 20, 9, true), Verdict::Hole { from: 10, to: 11 });
        assert_eq!(judge(12, 11, 9, true), Verdict::Hole { from: 10, to: 11 });
        assert_eq!(judge(1, 20, 9, false), Verdict::Rewritten);
    }

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
        let place = Place { seq: 5, epoch: 2, seen: 9, stored_at: None, boot: Some("a".to_owned()) };
        assert_eq!(epoch(&place, &state(2, 9), false, 9, Some("a")), 2, "nothing happened");
        assert_eq!(epoch(&place, &state(2, 9), false, 9, None), 2, "no boot is known");
        assert_eq!(epoch(&place, &state(2, 9), true, 9, Some("a")), 3, "it lost what Postgres has");
        assert_eq!(epoch(&place, &state(2, 8), false, 0, Some("a")), 3, "it lost what was once seen");
        assert_eq!(epoch(&place, &state(2, 9), false, 10, Some("a")), 3, "it lost what this process saw");
        assert_eq!(epoch(&place, &state(2, 9), false, 9, Some("b")), 3, "its host has booted");
        assert_eq!(epoch(&place, &state(1, 50), false, 0, Some("a")), 3, "an older copy");
        assert_eq!(epoch(&place, &state(4, 6), false, 6, Some("a")), 4, "an older dump");
        assert_eq!(epoch(&Place::default(), &state(1, 0), false, 0, Some("a")), 1, "a new deployment");
    }
}
