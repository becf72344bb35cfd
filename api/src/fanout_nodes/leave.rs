//! Appends the leaves of a dead process's people, which the process can't append any more.
//!
//! What must hold: nobody is left behind, whatever fails meanwhile, and however many nodes do the same
//! at once nothing happens twice. A leave has the highest counter there is: no word that the process
//! had still on its way counts after it.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use protocol::{error::Error, id::Shard, rpc::PresenceChange};
use service::metric_names as names;
use tokio::sync::Semaphore;

use crate::{
    commands::state::ApiState,
    commands::{presence::append_presence_change, request_context::RequestContext},
    queries::presence,
};

/// Maximum people read at a time.
const PAGE_SIZE: i64 = 500;
/// Leaves that a node has on their way, of all dead processes together.
pub(super) const CONCURRENT_LEAVES_MAX: usize = 64;
/// How long Postgres may take to get what the log holds, before it is asked for again.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// Between tries.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// The last word of a process: what Postgres holds as the highest counter.
const COUNTER_MAX: u64 = i64::MAX.cast_unsigned();

/// Takes everyone out of where they are by that process. Resolves when Postgres has nobody of it left.
pub(super) async fn leave_everywhere(api: &ApiState, incarnation: u64, permits: &Semaphore) {
    let shards = api.shards.all().filter(|shard| *shard != Shard::SYSTEM);
    // Each by itself: one that can't go on holds up no other.
    let each = stream::iter(shards).for_each_concurrent(None, |shard| async move {
        while let Err(error) = leave_shard(api, shard, incarnation, permits).await {
            tracing::warn!(%error, %shard, incarnation, "the people of a dead process have not left yet");
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    });
    each.await;
}

async fn leave_shard(
    api: &ApiState,
    shard: Shard,
    incarnation: u64,
    permits: &Semaphore,
) -> Result<(), Error> {
    loop {
        // Whom it let in is in the log; read before Postgres has it, they would be there for ever.
        let state = log::state(&api.jetstream, shard).await.map_err(|e| Error::unavailable("The log", &e))?;
        if !api.applied.wait(shard, state.last, CATCH_UP_TIMEOUT).await {
            return Err(Error::unavailable("What the log holds", &"it is not applied yet"));
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
