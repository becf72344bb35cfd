//! What a batch leaves to do for full-text search: one row a batch, so that it costs next to nothing here.

use protocol::id::Shard;
use sqlx::PgConnection;

use crate::{batch::Plan, watermark::number};

/// Notes the messages that a batch, begun after that event, has made or changed.
pub(super) async fn insert(
    session: &mut PgConnection,
    shard: Shard,
    after: u64,
    plan: &Plan,
) -> sqlx::Result<()> {
    let (rooms, ids): (Vec<i64>, Vec<i64>) = touched(plan).unzip();
    if ids.is_empty() {
        return Ok(());
    }
    // A replay of one rejected event may come after the batch that begins there.
    sqlx::query(
        "INSERT INTO search_due (shard, after_seq, rooms, ids) VALUES ($1, $2, $3, $4)
         ON CONFLICT (shard, after_seq) DO UPDATE
         SET rooms = search_due.rooms || excluded.rooms, ids = search_due.ids || excluded.ids",
    )
    .bind(shard.number())
    .bind(number(after))
    .bind(rooms)
    .bind(ids)
    .execute(session)
    .await?;
    Ok(())
}

/// Room and id of each, as Postgres has them; some more than once.
fn touched(plan: &Plan) -> impl Iterator<Item = (i64, i64)> {
    let new = plan.messages.iter().map(|(id, message)| (number(message.room.0), number(*id)));
    new.chain(plan.revisions.messages())
}
