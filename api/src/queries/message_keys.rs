//! Finds messages by the keys that their senders gave them.

use protocol::{
    clock::Timestamp,
    id::{RoomId, Shard, UserId},
};
use sqlx::types::time::OffsetDateTime;

use super::{to_i64, to_u64};
use crate::database::{QueryError, ReadPool};

/// A message found by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyedMessage {
    pub(crate) id: u64,
    /// The text as it was sent; `None` if the message was edited or deleted since.
    pub(crate) text: Option<String>,
    pub(crate) created_at: Timestamp,
}

/// SQL for a message by its key. Keys are indexed after the rows are written, like the words of the search: the
/// room's messages behind `through` are not indexed yet and are compared one by one.
const MESSAGE_BY_KEY_SQL: &str = "
WITH through AS (
    SELECT coalesce((SELECT min(d.after_seq) FROM search_due d WHERE d.shard = $1),
                    (SELECT w.seq FROM watermark w WHERE w.shard = $1)) AS seq
), candidate AS (
    SELECT k.id FROM message_key k
    WHERE k.shard = $1 AND k.client_id = CAST($4::text AS uuid) AND k.room = $2
    UNION
    SELECT m.id FROM message m
    WHERE m.shard = $1 AND m.room = $2 AND m.id > (SELECT seq FROM through) AND m.client_id = $4
)
SELECT m.id, CASE WHEN m.edited_at IS NULL AND m.deleted_at IS NULL THEN m.body END, m.created_at
FROM candidate c
CROSS JOIN LATERAL (SELECT m.* FROM message m WHERE m.shard = $1 AND m.room = $2 AND m.id = c.id LIMIT 1) m
WHERE m.author = $3 AND m.client_id = $4 ORDER BY m.id LIMIT 1";

/// Finds the message that a person sent to a room under a UUID.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn find_message(
    pool: &ReadPool,
    shard: Shard,
    room: RoomId,
    author: &UserId,
    client_id: &str,
) -> Result<Option<KeyedMessage>, QueryError> {
    let row: Option<(i64, Option<String>, OffsetDateTime)> = sqlx::query_as(MESSAGE_BY_KEY_SQL)
        .bind(shard.number())
        .bind(to_i64(room.0))
        .bind(author.as_str())
        .bind(client_id)
        .fetch_optional(pool)
        .await?;
    let found = |(id, text, created_at): (i64, _, OffsetDateTime)| {
        Ok(KeyedMessage { id: to_u64(id)?, text, created_at: created_at.into() })
    };
    row.map(found).transpose()
}
