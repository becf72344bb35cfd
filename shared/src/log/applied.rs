//! Up to where Postgres has what the log has, as the persister says it.

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

use crate::{
    id::{Shard, ShardCount},
    subject::{self, Channel},
};

/// All events of a shard up to `seq` are in Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// The epoch of the shard's stream.
    pub epoch: u64,
    /// The last event applied.
    pub seq: u64,
}

/// A live copy up to `seq` may have been lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncHint {
    /// Where.
    pub channel: Channel,
    /// What should have been heard by now.
    pub seq: u64,
}

/// Hears all `applied` notices and lets requests wait for them.
#[derive(Clone, Debug)]
pub struct AppliedWatch {
    shards: Arc<HashMap<Shard, Watched>>,
}

#[derive(Debug)]
struct Watched {
    applied: watch::Sender<Option<Applied>>,
    /// When anything was heard last: a persister that lives says so each second.
    heard: Mutex<Instant>,
}

impl AppliedWatch {
    /// Subscribes, and listens until the client is gone.
    ///
    /// # Errors
    /// When the client is gone already.
    pub async fn start(client: &Client, shards: ShardCount) -> anyhow::Result<Self> {
        let watched = || Watched { applied: watch::Sender::new(None), heard: Mutex::new(Instant::now()) };
        let watches = shards.all().map(|shard| (shard, watched())).collect();
        let this = Self { shards: Arc::new(watches) };
        let mut notices = client.subscribe(subject::APPLIED_ALL).await?;
        let heard = this.clone();
        tokio::spawn(async move {
            while let Some(notice) = notices.next().await {
                let shard = subject::notice_shard(&notice.subject).ok();
                let applied = serde_json::from_slice::<Applied>(&notice.payload).ok();
                if let (Some(shard), Some(applied)) = (shard, applied) {
                    heard.note(shard, applied);
                }
            }
        });
        Ok(this)
    }

    fn note(&self, shard: Shard, new: Applied) {
        let Some(watched) = self.shards.get(&shard) else { return };
        *watched.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        watched.applied.send_if_modified(|old| {
            // Notices of two persisters may cross: within an epoch the furthest is true.
            let newer = old.is_none_or(|old| (new.epoch, new.seq) > (old.epoch, old.seq));
            if newer {
                *old = Some(new);
            }
            newer
        });
    }

    /// The furthest notice heard of a shard.
    #[must_use]
    pub fn current(&self, shard: Shard) -> Option<Applied> {
        self.shards.get(&shard).and_then(|watched| *watched.applied.borrow())
    }

    /// How long nothing was heard of a shard.
    #[must_use]
    pub fn silence(&self, shard: Shard) -> Duration {
        self.shards.get(&shard).map_or(Duration::MAX, |watched| {
            watched.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
        })
    }

    /// Waits until an event is applied. False when it was not, in that time.
    pub async fn wait(&self, shard: Shard, seq: u64, at_most: Duration) -> bool {
        let Some(watched) = self.shards.get(&shard) else { return false };
        let mut watch = watched.applied.subscribe();
        let applied = watch.wait_for(|applied| applied.is_some_and(|applied| applied.seq >= seq));
        tokio::time::timeout(at_most, applied).await.is_ok_and(|waited| waited.is_ok())
    }
}
