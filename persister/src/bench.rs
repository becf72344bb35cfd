//! The way of a batch, for `tests/bench`: from what was read of the log to the columns that are written.

use log::StoredEvent;
use protocol::{event::ChatMessage, id::Shard};
use sqlx::PgConnection;

use crate::shard::apply::{
    closed_rooms::RecentlyClosedRooms,
    message::{self, MessageColumns},
    plan::WritePlan,
};

/// Sorts a batch, builds its messages' columns, and says how many messages it has and how many events it
/// rejects.
#[must_use]
pub fn columns(batch: &[StoredEvent]) -> (usize, usize) {
    let plan = WritePlan::build(batch, &mut RecentlyClosedRooms::default());
    std::hint::black_box(MessageColumns::from_messages(&plan.messages));
    (plan.messages.len(), plan.rejected.len())
}

/// Inserts messages as a batch does.
///
/// # Errors
/// What PostgreSQL answers.
pub async fn insert(
    session: &mut PgConnection,
    shard: Shard,
    messages: &[(u64, ChatMessage)],
) -> sqlx::Result<()> {
    message::insert(session, shard, messages).await
}
