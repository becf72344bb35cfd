//! Lists the messages that a batch has written in `search_due`, for the search index: one row for each batch.

use sqlx::PgConnection;

use crate::{
    database::to_i64,
    shard::apply::{ShardRows, plan::WritePlan},
};

/// Lists the messages that batches have created or changed.
pub(super) async fn insert(session: &mut PgConnection, rows: &[ShardRows<'_>]) -> sqlx::Result<()> {
    let (mut shards, mut after_seqs) = (Vec::new(), Vec::new());
    let (mut room_lists, mut id_lists) = (Vec::new(), Vec::new());
    for part in rows {
        let (rooms, ids): (Vec<i64>, Vec<i64>) = changed_messages(part.plan).unzip();
        if !ids.is_empty() {
            shards.push(part.shard.number());
            after_seqs.push(to_i64(part.after_seq));
            room_lists.push(array_text(&rooms));
            id_lists.push(array_text(&ids));
        }
    }
    if shards.is_empty() {
        return Ok(());
    }
    // The lists are of different lengths, so they are sent as texts: an array of arrays can't have them. A replayed
    // event adds to the row if a batch has begun after the same event.
    sqlx::query(
        "INSERT INTO search_due (shard, after_seq, rooms, ids)
         SELECT new.shard, new.after_seq, new.rooms::int8[], new.ids::int8[]
         FROM unnest($1::int2[], $2::int8[], $3::text[], $4::text[]) AS new (shard, after_seq, rooms, ids)
         ON CONFLICT (shard, after_seq) DO UPDATE
         SET rooms = search_due.rooms || excluded.rooms, ids = search_due.ids || excluded.ids",
    )
    .bind(shards)
    .bind(after_seqs)
    .bind(room_lists)
    .bind(id_lists)
    .execute(session)
    .await?;
    Ok(())
}

/// Writes numbers as PostgreSQL's text form of an array.
fn array_text(numbers: &[i64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
    format!("{{{}}}", numbers.join(","))
}

/// Room and id of each message; some occur more than once.
fn changed_messages(plan: &WritePlan) -> impl Iterator<Item = (i64, i64)> {
    let new = plan.messages.iter().map(|(id, message)| (to_i64(message.room.0), to_i64(*id)));
    new.chain(plan.revisions.message_keys())
}
