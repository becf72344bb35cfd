//! Exposes two steps of writing a batch to `tests/bench`: building its columns, and inserting its messages.

use log::StoredEvent;
use protocol::{event::ChatMessage, id::Shard};
use sqlx::PgConnection;

use crate::shard::apply::{
    closed_rooms::RecentlyClosedRooms,
    message::{self, MessageColumns},
    plan::WritePlan,
};

/// Plans a batch and builds its messages' columns. Returns the number of messages and the number of rejected events.
#[must_use]
pub fn columns(batch: &[StoredEvent]) -> (usize, usize) {
    let plan = WritePlan::build(batch, &mut RecentlyClosedRooms::default());
    std::hint::black_box(MessageColumns::from_messages(
        [(Shard::SYSTEM, plan.messages.as_slice())].into_iter(),
    ));
    (plan.messages.len(), plan.rejected.len())
}

/// Inserts messages as the persister does for a batch.
///
/// # Errors
/// When PostgreSQL fails.
pub async fn insert(
    session: &mut PgConnection,
    shard: Shard,
    messages: &[(u64, ChatMessage)],
) -> sqlx::Result<()> {
    message::insert(session, [(shard, messages)].into_iter()).await
}
