//! Holds what all requests of a node share.

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
use service::{origin::OriginArgs, rate::AddressArgs, token::TokenVerifier};
use tokio::sync::Semaphore;

use super::{match_rooms, read_marks::ReadMarkThrottle};
use crate::{
    access::AccessCache,
    config::SupportArgs,
    database::{APPLIED_TIMEOUT, ReadPool},
    limits::ApiLimits,
    page,
    persister_lag::PersisterLag,
    pictures::PictureStore,
};

/// How long a request may try to append.
pub(crate) const APPEND_TIMEOUT: Duration = Duration::from_secs(5);

/// One api node, cheap to clone.
pub(crate) type SharedApiState = Arc<ApiState>;

/// What the node holds. It keeps nothing that another node would miss.
pub(crate) struct ApiState {
    pub(crate) appender: Appender,
    pub(crate) applied: AppliedWatch,
    pub(crate) nats_client: Client,
    pub(crate) jetstream: Context,
    pub(crate) shards: ShardCount,
    pub(crate) pool: ReadPool,
    pub(crate) access: Arc<AccessCache>,
    pub(crate) persister_lag: PersisterLag,
    pub(crate) read_marks: ReadMarkThrottle,
    pub(crate) verifier: Arc<TokenVerifier>,
    pub(crate) origins: OriginArgs,
    pub(crate) text_max_chars: usize,
    /// Balance below which direct rooms say that an account is low.
    pub(crate) low_account: f64,
    pub(crate) limits: ApiLimits,
    pub(crate) client_address_args: AddressArgs,
    pub(crate) support_args: SupportArgs,
    /// The categories of topics.
    pub(crate) topic_categories: Vec<String>,
    pub(crate) pictures: PictureStore,
    /// Turns to search.
    pub(crate) search_permits: Semaphore,
    /// When the newest token of a person was issued whose claims this node knows to be stored, in seconds since 1970.
    pub(crate) profile_issued_at: Cache<UserId, i64>,
    /// The two of match rooms that somebody writes in.
    pub(crate) match_rooms: match_rooms::RecentMatchRooms,
}

impl ApiState {
    /// Largest data of an answer to a socket's action, in bytes.
    pub(crate) fn socket_max_bytes(&self) -> usize {
        page::socket_max_bytes(self.nats_client.max_payload())
    }

    /// Waits until an event is in Postgres. False where it is not, a second later.
    pub(crate) async fn wait_until_applied(&self, shard: Shard, seq: u64) -> bool {
        self.applied.wait(shard, seq, APPLIED_TIMEOUT).await
    }

    /// The same, of an event by its place.
    pub(crate) async fn wait_until_position_applied(&self, position: LogPosition) -> bool {
        self.wait_until_applied(position.shard, position.seq).await
    }

    /// Waits until every event of these names that was acknowledged of a channel is in Postgres. False
    /// where one is not, a second later.
    pub(crate) async fn wait_until_events_applied(
        &self,
        channel: &Channel,
        events: &[EventName],
    ) -> Result<bool, Error> {
        let last = events.iter().map(async |event| {
            let subject = channel.log_subject(self.shards, *event, None);
            log::last(&self.jetstream, &subject).await
        });
        let last = try_join_all(last).await.map_err(|error| Error::unavailable("The log", &error))?;
        let Some(last) = last.into_iter().flatten().map(|stored| stored.seq).max() else { return Ok(true) };
        Ok(self.wait_until_applied(channel.shard(self.shards), last).await)
    }
}
