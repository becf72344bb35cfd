//! Writes messages, edits, deletions and read marks in bulk.
//!
//! Changed messages are looked up by their whole keys, one by one, whatever statistics PostgreSQL has: for a join it
//! may read all messages of a shard.

use std::collections::HashMap;

use protocol::{
    event::{ChatMessage, MessageDetail},
    id::Shard,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use crate::{
    database::to_i64,
    shard::apply::revisions::{DeletionColumns, EditColumns},
};

/// Columns of new messages.
pub(crate) struct MessageColumns<'a> {
    rooms: Vec<i64>,
    ids: Vec<i64>,
    authors: Vec<&'a str>,
    bodies: Vec<&'a str>,
    client_ids: Vec<Option<&'a str>>,
    created_at: Vec<OffsetDateTime>,
    details: Vec<Option<Json<MessageDetail>>>,
}

impl<'a> MessageColumns<'a> {
    pub(crate) fn from_messages(messages: &'a [(u64, ChatMessage)]) -> Self {
        let stored_detail =
            |message: &ChatMessage| message.detail.clone().filter(MessageDetail::is_stored).map(Json);
        Self {
            rooms: messages.iter().map(|(_, message)| to_i64(message.room.0)).collect(),
            ids: messages.iter().map(|(id, _)| to_i64(*id)).collect(),
            authors: messages.iter().map(|(_, message)| message.user.as_str()).collect(),
            bodies: messages.iter().map(|(_, message)| message.message.as_str()).collect(),
            client_ids: messages.iter().map(|(_, message)| message.client_id.as_deref()).collect(),
            created_at: messages.iter().map(|(_, message)| message.created_at.into()).collect(),
            details: messages.iter().map(|(_, message)| stored_detail(message)).collect(),
        }
    }
}

/// Inserts all new messages by one statement.
pub(crate) async fn insert(
    session: &mut PgConnection,
    shard: Shard,
    messages: &[(u64, ChatMessage)],
) -> sqlx::Result<()> {
    if messages.is_empty() {
        return Ok(());
    }
    let columns = MessageColumns::from_messages(messages);
    sqlx::query(
        "INSERT INTO message (shard, room, id, author, body, client_id, created_at, detail)
         SELECT $1, new.* FROM unnest($2::int8[], $3::int8[], $4::text[], $5::text[], $6::text[],
                                      $7::timestamptz[], $8::jsonb[]) AS new",
    )
    .bind(shard.number())
    .bind(columns.rooms)
    .bind(columns.ids)
    .bind(columns.authors)
    .bind(columns.bodies)
    .bind(columns.client_ids)
    .bind(columns.created_at)
    .bind(columns.details)
    .execute(session)
    .await?;
    Ok(())
}

/// Fills in the columns of a message that an older version did not understand. The others may have changed since, and
/// stay.
pub(crate) async fn fill_missing(
    session: &mut PgConnection,
    shard: Shard,
    id: u64,
    message: &ChatMessage,
) -> sqlx::Result<()> {
    let detail = message.detail.as_ref().filter(|detail| detail.is_stored()).map(Json);
    sqlx::query(
        "UPDATE message SET client_id = coalesce(client_id, $4), detail = coalesce(detail, $5)
         WHERE shard = $1 AND room = $2 AND id = $3",
    )
    .bind(shard.number())
    .bind(to_i64(message.room.0))
    .bind(to_i64(id))
    .bind(message.client_id.as_deref())
    .bind(detail)
    .execute(session)
    .await?;
    Ok(())
}

/// Replaces the texts of messages, except of those that are deleted or have a newer change.
pub(super) async fn update_texts(
    session: &mut PgConnection,
    shard: Shard,
    edits: &EditColumns<'_>,
) -> sqlx::Result<()> {
    if edits.ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE message SET body = new.body, edited_at = new.edited_at, changed = new.changed
         FROM (SELECT m.ctid AS row_ctid, new.*
               FROM unnest($2::int8[], $3::int8[], $4::text[], $5::timestamptz[], $6::int8[])
                    AS new (room, id, body, edited_at, changed)
               CROSS JOIN LATERAL (SELECT m.ctid FROM message m
                                   WHERE m.shard = $1 AND m.room = new.room AND m.id = new.id LIMIT 1) m) AS new
         WHERE message.ctid = new.row_ctid
               AND message.deleted_at IS NULL AND (message.changed IS NULL OR message.changed < new.changed)",
    )
    .bind(shard.number())
    .bind(&edits.rooms)
    .bind(&edits.ids)
    .bind(&edits.bodies)
    .bind(&edits.edited_at)
    .bind(&edits.changed)
    .execute(session)
    .await?;
    Ok(())
}

/// Marks messages as deleted, and clears their texts.
pub(super) async fn mark_deleted(
    session: &mut PgConnection,
    shard: Shard,
    deletions: &DeletionColumns,
) -> sqlx::Result<()> {
    if deletions.ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE message SET body = '', deleted_at = new.deleted_at, changed = greatest(message.changed, new.changed)
         FROM (SELECT m.ctid AS row_ctid, new.*
               FROM unnest($2::int8[], $3::int8[], $4::timestamptz[], $5::int8[])
                    AS new (room, id, deleted_at, changed)
               CROSS JOIN LATERAL (SELECT m.ctid FROM message m
                                   WHERE m.shard = $1 AND m.room = new.room AND m.id = new.id LIMIT 1) m) AS new
         WHERE message.ctid = new.row_ctid AND message.deleted_at IS NULL",
    )
    .bind(shard.number())
    .bind(&deletions.rooms)
    .bind(&deletions.ids)
    .bind(&deletions.deleted_at)
    .bind(&deletions.changed)
    .execute(session)
    .await?;
    Ok(())
}

/// Moves people's read marks in rooms forward, never back.
pub(super) async fn advance_read_marks(
    session: &mut PgConnection,
    shard: Shard,
    marks: &HashMap<(i64, String), i64>,
) -> sqlx::Result<()> {
    if marks.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO read_mark (shard, room, user_id, message_id)
         SELECT $1, new.* FROM unnest($2::int8[], $3::text[], $4::int8[]) AS new
         ON CONFLICT (shard, room, user_id) DO UPDATE SET message_id = excluded.message_id
         WHERE read_mark.message_id < excluded.message_id",
    )
    .bind(shard.number())
    .bind(marks.keys().map(|(room, _)| *room).collect::<Vec<_>>())
    .bind(marks.keys().map(|(_, user)| user.as_str()).collect::<Vec<_>>())
    .bind(marks.values().copied().collect::<Vec<_>>())
    .execute(session)
    .await?;
    Ok(())
}
