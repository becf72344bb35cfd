//! Tracks how far Postgres has the log, by the persister's notices.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::Client;
use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

use protocol::{
    id::{Shard, ShardCount},
    subject::{self, Channel},
};
use service::metric_names as names;

/// All events of a shard up to `seq` are in Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppliedPosition {
    /// The epoch of the shard's stream.
    pub epoch: u64,
    /// The last event applied.
    pub seq: u64,
}

/// A hint from api that a live copy of an event may have been lost, for fan-out to catch up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncHint {
    /// The event's channel.
    pub channel: Channel,
    /// The event's sequence: fan-out should have received it by now.
    pub seq: u64,
}

/// Receives all `applied` notices, and lets requests wait for them.
#[derive(Clone, Debug)]
pub struct AppliedWatch {
    shards: Arc<HashMap<Shard, ShardWatch>>,
}

#[derive(Debug)]
struct ShardWatch {
    applied: watch::Sender<Option<AppliedPosition>>,
    notices: Mutex<NoticeHistory>,
}

/// The last notices of a shard.
#[derive(Debug)]
struct NoticeHistory {
    /// When the last notice was received: a persister that runs sends one each second.
    last_received_at: Instant,
    /// Whether the last notice was below the highest one, in the same epoch.
    is_last_lower: bool,
}

impl AppliedWatch {
    fn new(shards: ShardCount) -> Self {
        let new_watch = || ShardWatch {
            applied: watch::Sender::new(None),
            notices: Mutex::new(NoticeHistory { last_received_at: Instant::now(), is_last_lower: false }),
        };
        Self { shards: Arc::new(shards.all().map(|shard| (shard, new_watch())).collect()) }
    }

    /// Subscribes to the notices, and receives them until the client is closed.
    ///
    /// # Errors
    /// When the client is closed already.
    pub async fn start(client: &Client, shards: ShardCount) -> anyhow::Result<Self> {
        let this = Self::new(shards);
        let mut notices = client.subscribe(subject::APPLIED_ALL).await?;
        let receiver = this.clone();
        tokio::spawn(async move {
            while let Some(notice) = notices.next().await {
                let shard = subject::notice_shard(&notice.subject).ok();
                let applied = serde_json::from_slice::<AppliedPosition>(&notice.payload).ok();
                if let (Some(shard), Some(applied)) = (shard, applied) {
                    receiver.apply_notice(shard, applied);
                }
            }
        });
        Ok(this)
    }

    fn apply_notice(&self, shard: Shard, new: AppliedPosition) {
        let Some(shard_watch) = self.shards.get(&shard) else { return };
        let mut notices = shard_watch.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.last_received_at = Instant::now();
        shard_watch.applied.send_if_modified(|old| {
            let is_lower = old.is_some_and(|old| new.epoch == old.epoch && new.seq < old.seq);
            // Notices of two persisters may cross, so a single lower one is ignored. Two in a row mean that Postgres
            // has less than it had: a standby that lagged behind took over.
            let goes_back = is_lower && notices.is_last_lower;
            notices.is_last_lower = is_lower && !goes_back;
            if goes_back {
                metrics::counter!(names::APPLIED_WENT_BACK_TOTAL).increment(1);
                tracing::warn!(%shard, ?old, ?new, "Postgres has less of the log than it had");
            }
            let is_accepted = goes_back || old.is_none_or(|old| (new.epoch, new.seq) > (old.epoch, old.seq));
            if is_accepted {
                *old = Some(new);
            }
            is_accepted
        });
    }

    /// The highest position of a shard, since Postgres last lost a part of its log.
    #[must_use]
    pub fn current(&self, shard: Shard) -> Option<AppliedPosition> {
        self.shards.get(&shard).and_then(|shard_watch| *shard_watch.applied.borrow())
    }

    /// How long ago the last notice of a shard was received.
    #[must_use]
    pub fn since_last_notice(&self, shard: Shard) -> Duration {
        self.shards.get(&shard).map_or(Duration::MAX, |shard_watch| {
            shard_watch.notices.lock().unwrap_or_else(PoisonError::into_inner).last_received_at.elapsed()
        })
    }

    /// Waits until an event is in Postgres. Returns false if it is not there after `max_wait`.
    pub async fn wait(&self, shard: Shard, seq: u64, max_wait: Duration) -> bool {
        let Some(shard_watch) = self.shards.get(&shard) else { return false };
        let mut watch = shard_watch.applied.subscribe();
        let applied = watch.wait_for(|applied| applied.is_some_and(|applied| applied.seq >= seq));
        tokio::time::timeout(max_wait, applied).await.is_ok_and(|result| result.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard() -> Shard {
        "2".parse().expect("a shard")
    }

    fn watch_after(notices: &[(u64, u64)]) -> AppliedWatch {
        let watch = AppliedWatch::new(ShardCount::new(4).expect("a number of shards"));
        for (epoch, seq) in notices.iter().copied() {
            watch.apply_notice(shard(), AppliedPosition { epoch, seq });
        }
        watch
    }

    #[test]
    fn watch_goes_back_after_two_lower_notices_in_a_row_and_on_with_the_next() {
        let watch = watch_after(&[(1, 100), (1, 40)]);
        assert_eq!(
            watch.current(shard()),
            Some(AppliedPosition { epoch: 1, seq: 100 }),
            "a single lower notice may be an older one that arrived late"
        );
        watch.apply_notice(shard(), AppliedPosition { epoch: 1, seq: 41 });
        assert_eq!(watch.current(shard()), Some(AppliedPosition { epoch: 1, seq: 41 }));
        watch.apply_notice(shard(), AppliedPosition { epoch: 1, seq: 60 });
        assert_eq!(watch.current(shard()), Some(AppliedPosition { epoch: 1, seq: 60 }));
    }

    #[test]
    fn watch_ignores_crossing_notices_and_those_of_an_earlier_epoch() {
        for notices in [
            vec![(1, 100), (1, 99), (1, 100), (1, 99), (1, 101), (1, 100)],
            vec![(1, 100), (2, 101), (1, 99), (1, 99), (1, 99)],
        ] {
            let highest = notices.iter().max().copied().expect("some");
            let current = watch_after(&notices).current(shard()).expect("some");
            assert_eq!((current.epoch, current.seq), highest, "{notices:?}");
        }
    }

    #[tokio::test]
    async fn wait_for_an_event_that_was_lost_ends_once_it_is_applied_again() {
        let watch = watch_after(&[(1, 100), (1, 40), (1, 40)]);
        let waiting = watch.wait(shard(), 80, Duration::from_secs(60));
        let noting = async { watch.apply_notice(shard(), AppliedPosition { epoch: 1, seq: 80 }) };
        assert!(tokio::join!(biased; waiting, noting).0);
        assert!(!watch.wait(shard(), 81, Duration::ZERO).await);
    }
}
