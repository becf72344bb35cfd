//! Writes messages, edits, deletions and read marks in bulk.
//!
//! Changed messages are looked up by their whole keys, one by one, whatever statistics PostgreSQL has: for a join it
//! may read all messages of a shard.

use protocol::{
    event::{ChatMessage, MessageDetail},
    id::Shard,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use crate::{
    database::to_i64,
    shard::apply::{
        ShardRows,
        revisions::{DeletionColumns, EditColumns},
    },
};

/// The new messages of a shard, with their ids.
pub(crate) type ShardMessages<'a> = (Shard, &'a [(u64, ChatMessage)]);

/// Columns of new messages.
pub(crate) struct MessageColumns<'a> {
    shards: Vec<i16>,
    rooms: Vec<i64>,
    ids: Vec<i64>,
    authors: Vec<&'a str>,
    bodies: Vec<&'a str>,
    client_ids: Vec<Option<&'a str>>,
    created_at: Vec<OffsetDateTime>,
    details: Vec<Option<Json<MessageDetail>>>,
}

impl<'a> MessageColumns<'a> {
    pub(crate) fn from_messages(messages: impl Iterator<Item = ShardMessages<'a>> + Clone) -> Self {
        let count = messages.clone().map(|(_, messages)| messages.len()).sum();
        let mut columns = Self {
            shards: Vec::with_capacity(count),
            rooms: Vec::with_capacity(count),
            ids: Vec::with_capacity(count),
            authors: Vec::with_capacity(count),
            bodies: Vec::with_capacity(count),
            client_ids: Vec::with_capacity(count),
            created_at: Vec::with_capacity(count),
            details: Vec::with_capacity(count),
        };
        for (shard, messages) in messages {
            for (id, message) in messages {
                columns.shards.push(shard.number());
                columns.rooms.push(to_i64(message.room.0));
                columns.ids.push(to_i64(*id));
                columns.authors.push(message.user.as_str());
                columns.bodies.push(message.message.as_str());
                columns.client_ids.push(message.client_id.as_deref());
                columns.created_at.push(message.created_at.into());
                columns.details.push(message.detail.clone().filter(MessageDetail::is_stored).map(Json));
            }
        }
        columns
    }
}

/// Inserts all new messages by one statement.
pub(crate) async fn insert<'a>(
    session: &mut PgConnection,
    messages: impl Iterator<Item = ShardMessages<'a>> + Clone,
) -> sqlx::Result<()> {
    let columns = MessageColumns::from_messages(messages);
    if columns.ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO message (shard, room, id, author, body, client_id, created_at, detail)
         SELECT * FROM unnest($1::int2[], $2::int8[], $3::int8[], $4::text[], $5::text[], $6::text[],
                              $7::timestamptz[], $8::jsonb[])",
    )
    .bind(columns.shards)
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
    rows: &[ShardRows<'_>],
) -> sqlx::Result<()> {
    let (mut shards, mut rooms, mut users, mut ids) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for part in rows {
        for ((room, user), id) in &part.plan.read_marks {
            shards.push(part.shard.number());
            rooms.push(*room);
            users.push(user.as_str());
            ids.push(*id);
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO read_mark (shard, room, user_id, message_id)
         SELECT * FROM unnest($1::int2[], $2::int8[], $3::text[], $4::int8[])
         ON CONFLICT (shard, room, user_id) DO UPDATE SET message_id = excluded.message_id
         WHERE read_mark.message_id < excluded.message_id",
    )
    .bind(shards)
    .bind(rooms)
    .bind(users)
    .bind(ids)
    .execute(session)
    .await?;
    Ok(())
}
