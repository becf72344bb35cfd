//! Holds the state that commands and queries of an api node share.

use std::{sync::Arc, time::Duration};

use crate::append::{Appender, LogPosition};
use async_nats::{Client, jetstream::Context};
use futures_util::future::try_join_all;
use log::AppliedWatch;
use protocol::{
    error::Error,
    event::EventName,
    id::{Shard, ShardCount, UserId},
    subject::Channel,
};
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use super::{match_rooms, read_marks::ReadMarkThrottle};
use crate::{
    access::AccessCache,
    config::VisitorIdentity,
    database::{APPLIED_TIMEOUT, ReadPool},
    limits::ApiLimits,
    page,
    persister_lag::PersisterLag,
    pictures::PictureStore,
};

/// Maximum time for which a request tries to append.
pub(crate) const APPEND_TIMEOUT: Duration = Duration::from_secs(5);

/// The state that commands and queries of one api node use. No other node depends on it.
pub(crate) struct CommandState {
    pub(crate) shards: ShardCount,
    pub(crate) log: LogAccess,
    pub(crate) pool: ReadPool,
    /// Decides who may read, join and manage a room.
    pub(crate) access: Arc<AccessCache>,
    pub(crate) persister_lag: PersisterLag,
    pub(crate) limits: Arc<ApiLimits>,
    pub(crate) settings: CommandSettings,
    /// Read marks that are not appended yet.
    pub(crate) read_marks: ReadMarkThrottle,
    pub(crate) caches: Caches,
    pub(crate) pictures: Arc<PictureStore>,
    /// Bounds how many searches run at a time: each takes a permit.
    pub(crate) search_permits: Semaphore,
}

/// The log, and what Postgres has of it.
pub(crate) struct LogAccess {
    pub(crate) appender: Appender,
    pub(crate) applied: AppliedWatch,
    pub(crate) nats_client: Client,
    pub(crate) jetstream: Context,
}

/// Settings of commands.
pub(crate) struct CommandSettings {
    /// Maximum length of a message, in characters.
    pub(crate) text_max_chars: usize,
    /// How visitors of support rooms are identified.
    pub(crate) support_visitors: VisitorIdentity,
    /// Whether people without a token may create support rooms.
    pub(crate) support_open: bool,
}

/// Answers that a node keeps so that it need not ask or write again. It works without them, more slowly.
pub(crate) struct Caches {
    /// By user: when the newest token whose claims are known to be stored was issued, in seconds since 1970.
    pub(crate) profile_issued_at: Cache<UserId, i64>,
    /// The people of match rooms that were used recently.
    pub(crate) match_rooms: match_rooms::RecentMatchRooms,
}

impl CommandState {
    /// Maximum size of the data in an answer to a socket's action, in bytes.
    pub(crate) fn socket_max_bytes(&self) -> usize {
        page::socket_max_bytes(self.log.nats_client.max_payload())
    }

    /// Waits up to one second until Postgres has the event; false if it still lacks it.
    pub(crate) async fn wait_until_applied(&self, shard: Shard, seq: u64) -> bool {
        self.log.applied.wait(shard, seq, APPLIED_TIMEOUT).await
    }

    /// Waits up to one second until Postgres has the event at a position; false if it still lacks it.
    pub(crate) async fn wait_until_position_applied(&self, position: LogPosition) -> bool {
        self.wait_until_applied(position.shard, position.seq).await
    }

    /// Waits up to one second until Postgres has every acknowledged event of these names in a channel; false if it
    /// still lacks one.
    pub(crate) async fn wait_until_events_applied(
        &self,
        channel: &Channel,
        events: &[EventName],
    ) -> Result<bool, Error> {
        let last = events.iter().map(async |event| {
            let subject = channel.log_subject(self.shards, *event, None);
            log::last(&self.log.jetstream, &subject).await
        });
        let last = try_join_all(last).await.map_err(|error| Error::unavailable("The log", &error))?;
        let Some(last) = last.into_iter().flatten().map(|stored| stored.seq).max() else { return Ok(true) };
        Ok(self.wait_until_applied(channel.shard(self.shards), last).await)
    }
}
