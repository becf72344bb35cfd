//! Appends the leaves of a dead process's people.
//!
//! What must hold: nobody stays present, whatever fails meanwhile, and if several nodes do this at once each leave is
//! stored once. A leave has the highest counter possible, so no change that the process still had in transit takes
//! effect after it.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use protocol::{error::Error, id::Shard, rpc::PresenceChange};
use service::metric_names as names;
use tokio::sync::Semaphore;

use crate::{
    commands::state::CommandState,
    commands::{presence::append_presence_change, request_context::RequestContext},
    queries::presence,
};

/// Maximum people read at a time.
const PAGE_SIZE: i64 = 500;
/// Maximum concurrent leaves of a node, of all dead processes together.
pub(super) const CONCURRENT_LEAVES_MAX: usize = 64;
/// How long Postgres may take to apply what the log holds, before the attempt fails.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before another attempt.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// The counter of a process's last change: the highest that Postgres can store.
const COUNTER_MAX: u64 = i64::MAX.cast_unsigned();

/// Removes a process's people from their rooms and from those online. Returns once Postgres has none of them left.
pub(super) async fn leave_everywhere(api: &CommandState, incarnation: u64, permits: &Semaphore) {
    let shards = api.shards.all().filter(|shard| *shard != Shard::SYSTEM);
    // Each shard by itself: a failing one does not delay the others.
    let each = stream::iter(shards).for_each_concurrent(None, |shard| async move {
        while let Err(error) = leave_shard(api, shard, incarnation, permits).await {
            tracing::warn!(%error, %shard, incarnation, "could not append the leaves of a dead process; trying again");
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    });
    each.await;
}

async fn leave_shard(
    api: &CommandState,
    shard: Shard,
    incarnation: u64,
    permits: &Semaphore,
) -> Result<(), Error> {
    loop {
        // Joins that the process appended may not be applied yet: read before that, they would be missed.
        let state =
            log::state(&api.log.jetstream, shard).await.map_err(|e| Error::unavailable("The log", &e))?;
        if !api.log.applied.wait(shard, state.last, CATCH_UP_TIMEOUT).await {
            return Err(Error::unavailable("The list of people", &"it is not applied yet"));
        }
        let people = presence::list_people_of_process(&api.pool, shard, incarnation, PAGE_SIZE).await?;
        if people.is_empty() {
            return Ok(());
        }
        let leaves = stream::iter(people).map(Ok).try_for_each_concurrent(
            CONCURRENT_LEAVES_MAX,
            |(room, user)| async move {
                let _place = permits.acquire().await.map_err(|error| Error::internal(&error))?;
                let leave = PresenceChange { room, user, joined: false, counter: COUNTER_MAX };
                append_presence_change(api, incarnation, leave, &RequestContext::internal()).await?;
                metrics::counter!(names::DEAD_NODE_LEAVES_TOTAL).increment(1);
                Ok::<_, Error>(())
            },
        );
        leaves.await?;
    }
}
