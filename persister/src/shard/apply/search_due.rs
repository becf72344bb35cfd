//! Lists the messages that a batch has written in `search_due`, for the search index: one row for each batch.

use protocol::id::Shard;
use sqlx::PgConnection;

use crate::{database::to_i64, shard::apply::plan::WritePlan};

/// Lists the messages that a batch has created or changed. The batch began after event `after_seq`.
pub(super) async fn insert(
    session: &mut PgConnection,
    shard: Shard,
    after_seq: u64,
    plan: &WritePlan,
) -> sqlx::Result<()> {
    let (rooms, ids): (Vec<i64>, Vec<i64>) = changed_messages(plan).unzip();
    if ids.is_empty() {
        return Ok(());
    }
    // A replayed event adds to the row if a batch has begun after the same event.
    sqlx::query(
        "INSERT INTO search_due (shard, after_seq, rooms, ids) VALUES ($1, $2, $3, $4)
         ON CONFLICT (shard, after_seq) DO UPDATE
         SET rooms = search_due.rooms || excluded.rooms, ids = search_due.ids || excluded.ids",
    )
    .bind(shard.number())
    .bind(to_i64(after_seq))
    .bind(rooms)
    .bind(ids)
    .execute(session)
    .await?;
    Ok(())
}

/// Room and id of each message; some occur more than once.
fn changed_messages(plan: &WritePlan) -> impl Iterator<Item = (i64, i64)> {
    let new = plan.messages.iter().map(|(id, message)| (to_i64(message.room.0), to_i64(*id)));
    new.chain(plan.revisions.message_keys())
}
