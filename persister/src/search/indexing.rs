//! Indexes one slice of the messages that `search_due` lists for a shard, in one transaction.

use std::collections::BTreeMap;

use protocol::id::Shard;
use sqlx::{Connection as _, FromRow, PgConnection};
use time::OffsetDateTime;

use super::text_runs::split_long_runs;
use crate::database::DatabaseFailure;

/// Bytes of texts after which a step takes no further message.
const STEP_BYTES_MAX: i64 = 256 << 10;
/// Maximum characters of a text that are indexed: api's default limit, and few enough for a `tsvector`.
const TEXT_CHARS_MAX: i32 = 16_384;

/// A row of `search_due`, with as many of its messages as this step reads.
#[derive(FromRow)]
struct DueRow {
    after_seq: i64,
    /// Number of messages that the whole row names.
    size: i32,
    rooms: Vec<i64>,
    ids: Vec<i64>,
}

/// A message that is due. It has no text if those before it already fill [`STEP_BYTES_MAX`].
#[derive(FromRow)]
struct DueMessage {
    /// Its position in the arrays of the query, from 1.
    n: i64,
    room: i64,
    id: i64,
    created_at: OffsetDateTime,
    is_deleted: bool,
    text: Option<String>,
}

/// Result of a step.
#[derive(Debug)]
pub(super) struct IndexingOutcome {
    /// Messages removed from `search_due`, including those that no longer exist.
    pub(super) done_messages: usize,
    /// Messages written to the search index or deleted from it.
    pub(super) indexed_messages: u64,
    /// Whether more messages may be due.
    pub(super) has_more: bool,
}

/// Selects and locks the first rows of `search_due`, with at most `$2` messages in all.
const SELECT_DUE: &str = "
WITH first AS (
    SELECT after_seq, rooms, ids FROM search_due WHERE shard = $1 ORDER BY after_seq LIMIT $2 FOR UPDATE
), due AS (
    SELECT *, $2 - (sum(cardinality(ids)) OVER (ORDER BY after_seq) - cardinality(ids))::int AS free FROM first
)
SELECT after_seq, cardinality(ids) AS size, rooms[:free] AS rooms, ids[:free] AS ids
FROM due WHERE free > 0 ORDER BY after_seq";

/// Selects the current state of messages. `octet_length` does not read the texts themselves.
const SELECT_MESSAGES: &str = "
SELECT n, room, id, created_at, is_deleted, CASE WHEN before < $4 THEN left(body, $5) END AS text
FROM (SELECT one.n, m.room, m.id, m.created_at, m.deleted_at IS NOT NULL AS is_deleted, m.body,
             sum(octet_length(m.body)) OVER (ORDER BY one.n) - octet_length(m.body) AS before
      FROM unnest($2::int8[], $3::int8[]) WITH ORDINALITY AS one (room, id, n)
      CROSS JOIN LATERAL (SELECT * FROM message m
                          WHERE m.shard = $1 AND m.room = one.room AND m.id = one.id LIMIT 1) m) AS sized
ORDER BY n";

/// Indexes up to `messages_max` of the messages that are due first, and removes them from `search_due`.
pub(super) async fn index_due(
    session: &mut PgConnection,
    shard: Shard,
    messages_max: usize,
) -> sqlx::Result<IndexingOutcome> {
    let mut transaction = session.begin().await?;
    let due_rows = read_due(&mut transaction, shard, messages_max).await?;
    let due_count: usize = due_rows.iter().map(|due_row| due_row.ids.len()).sum();
    let messages = read_messages(&mut transaction, shard, &due_rows).await?;
    let first_without_text = messages.iter().find(|message| message.text.is_none());
    // Messages that no longer exist count as done.
    let done_count =
        first_without_text.map_or(Ok(due_count), |first| usize::try_from(first.n - 1)).unwrap_or(0);
    // A message that is due twice is written once.
    let messages: BTreeMap<(i64, i64), DueMessage> = messages
        .into_iter()
        .filter(|message| message.text.is_some())
        .map(|message| ((message.room, message.id), message))
        .collect();
    let (deleted, existing): (Vec<_>, Vec<_>) = messages.values().partition(|message| message.is_deleted);
    write_entries(&mut transaction, shard, &existing).await?;
    delete_entries(&mut transaction, shard, &deleted).await?;
    remove_due(&mut transaction, shard, &due_rows, done_count).await?;
    transaction.commit().await?;
    Ok(IndexingOutcome {
        done_messages: done_count,
        indexed_messages: messages.len() as u64,
        has_more: done_count < due_count || due_count >= messages_max,
    })
}

/// Removes the message that is due first from `search_due` without indexing it. Also deletes its entry in the search
/// index, which has the words of its former text. Returns its room and id.
pub(super) async fn skip_first(session: &mut PgConnection, shard: Shard) -> sqlx::Result<Option<(i64, i64)>> {
    let mut transaction = session.begin().await?;
    let due_rows = read_due(&mut transaction, shard, 1).await?;
    let first = due_rows.first().and_then(|due_row| Some((*due_row.rooms.first()?, *due_row.ids.first()?)));
    if let Some((room, id)) = first {
        sqlx::query("DELETE FROM message_search WHERE shard = $1 AND room = $2 AND id = $3")
            .bind(shard.number())
            .bind(room)
            .bind(id)
            .execute(&mut *transaction)
            .await?;
    }
    remove_due(&mut transaction, shard, &due_rows, 1).await?;
    transaction.commit().await?;
    Ok(first)
}

/// Whether parsing the text of the message that is due first takes longer than a statement may, measured without
/// writing anything. Fails if the database is slow to even read the message.
pub(super) async fn is_slow_to_parse(
    session: &mut PgConnection,
    shard: Shard,
) -> Result<bool, DatabaseFailure> {
    let due_rows = read_due(session, shard, 1).await?;
    let messages = read_messages(session, shard, &due_rows).await?;
    let Some(text) = messages.first().and_then(|message| message.text.as_deref()) else { return Ok(false) };
    let query = sqlx::query("SELECT length(to_tsvector('simple', $1))").bind(split_long_runs(text));
    match query.execute(session).await.map_err(DatabaseFailure::from) {
        Ok(_) => Ok(false),
        Err(DatabaseFailure::TimedOut(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

async fn read_due(
    session: &mut PgConnection,
    shard: Shard,
    messages_max: usize,
) -> sqlx::Result<Vec<DueRow>> {
    let rows = i32::try_from(messages_max).unwrap_or(i32::MAX);
    sqlx::query_as(SELECT_DUE).bind(shard.number()).bind(rows).fetch_all(session).await
}

async fn read_messages(
    session: &mut PgConnection,
    shard: Shard,
    due_rows: &[DueRow],
) -> sqlx::Result<Vec<DueMessage>> {
    let rooms: Vec<i64> = due_rows.iter().flat_map(|due_row| &due_row.rooms).copied().collect();
    let ids: Vec<i64> = due_rows.iter().flat_map(|due_row| &due_row.ids).copied().collect();
    sqlx::query_as(SELECT_MESSAGES)
        .bind(shard.number())
        .bind(rooms)
        .bind(ids)
        .bind(STEP_BYTES_MAX)
        .bind(TEXT_CHARS_MAX)
        .fetch_all(session)
        .await
}

async fn write_entries(
    session: &mut PgConnection,
    shard: Shard,
    messages: &[&DueMessage],
) -> sqlx::Result<()> {
    if messages.is_empty() {
        return Ok(());
    }
    let texts: Vec<_> =
        messages.iter().map(|m| split_long_runs(m.text.as_deref().unwrap_or_default())).collect();
    sqlx::query(
        "INSERT INTO message_search (shard, room, id, created_at, words)
         SELECT $1, new.room, new.id, new.created_at, to_tsvector('simple', new.text)
         FROM unnest($2::int8[], $3::int8[], $4::timestamptz[], $5::text[]) AS new (room, id, created_at, text)
         ON CONFLICT (shard, room, id) DO UPDATE SET words = excluded.words",
    )
    .bind(shard.number())
    .bind(messages.iter().map(|message| message.room).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.id).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.created_at).collect::<Vec<_>>())
    .bind(texts.iter().map(AsRef::as_ref).collect::<Vec<&str>>())
    .execute(session)
    .await?;
    Ok(())
}

async fn delete_entries(
    session: &mut PgConnection,
    shard: Shard,
    messages: &[&DueMessage],
) -> sqlx::Result<()> {
    if messages.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "DELETE FROM message_search WHERE ctid = ANY (ARRAY(
             SELECT s.ctid FROM unnest($2::int8[], $3::int8[]) AS gone (room, id)
             CROSS JOIN LATERAL (SELECT s.ctid FROM message_search s
                                 WHERE s.shard = $1 AND s.room = gone.room AND s.id = gone.id LIMIT 1) s))",
    )
    .bind(shard.number())
    .bind(messages.iter().map(|message| message.room).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.id).collect::<Vec<_>>())
    .execute(session)
    .await?;
    Ok(())
}

/// Removes the first `count` messages from `search_due`. Triggers of this table then write, in this transaction, what
/// else is derived from these messages: their keys (`message_key`), and who has written in direct rooms
/// (`room_writer`).
async fn remove_due(
    session: &mut PgConnection,
    shard: Shard,
    due_rows: &[DueRow],
    mut count: usize,
) -> sqlx::Result<()> {
    let mut finished_rows = Vec::new();
    for due_row in due_rows {
        let count_of_row = count.min(due_row.ids.len());
        count -= count_of_row;
        if count_of_row == usize::try_from(due_row.size).unwrap_or(0) {
            finished_rows.push(due_row.after_seq);
        } else if count_of_row > 0 {
            sqlx::query(
                "UPDATE search_due SET rooms = rooms[$3 + 1:], ids = ids[$3 + 1:]
                 WHERE shard = $1 AND after_seq = $2",
            )
            .bind(shard.number())
            .bind(due_row.after_seq)
            .bind(i32::try_from(count_of_row).unwrap_or(i32::MAX))
            .execute(&mut *session)
            .await?;
        }
    }
    sqlx::query("DELETE FROM search_due WHERE shard = $1 AND after_seq = ANY($2)")
        .bind(shard.number())
        .bind(finished_rows)
        .execute(session)
        .await?;
    Ok(())
}
