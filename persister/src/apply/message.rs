//! Messages: inserted in bulk, edited and deleted in the log's order.

use shared::{
    event::{ChatMessage, MessageDelete, MessageDetail, MessageEdit, MessageRead},
    id::Shard,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use crate::watermark::number;

/// New messages, column by column.
pub(crate) struct Columns<'a> {
    rooms: Vec<i64>,
    ids: Vec<i64>,
    authors: Vec<&'a str>,
    bodies: Vec<&'a str>,
    client_ids: Vec<Option<&'a str>>,
    created: Vec<OffsetDateTime>,
    details: Vec<Option<Json<MessageDetail>>>,
}

impl<'a> Columns<'a> {
    pub(crate) fn of(messages: &'a [(u64, ChatMessage)]) -> Self {
        let kept = |message: &ChatMessage| message.detail.clone().filter(MessageDetail::is_kept).map(Json);
        Self {
            rooms: messages.iter().map(|(_, message)| number(message.room.0)).collect(),
            ids: messages.iter().map(|(id, _)| number(*id)).collect(),
            authors: messages.iter().map(|(_, message)| message.user.as_str()).collect(),
            bodies: messages.iter().map(|(_, message)| message.message.as_str()).collect(),
            client_ids: messages.iter().map(|(_, message)| message.client_id.as_deref()).collect(),
            created: messages.iter().map(|(_, message)| message.created_at.into()).collect(),
            details: messages.iter().map(|(_, message)| kept(message)).collect(),
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
    let columns = Columns::of(messages);
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
    .bind(columns.created)
    .bind(columns.details)
    .execute(session)
    .await?;
    Ok(())
}

/// Gives a message another text. After its deletion that changes nothing.
pub(super) async fn edit(
    session: &mut PgConnection,
    shard: Shard,
    seq: u64,
    edit: &MessageEdit,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE message SET body = $4, edited_at = $5, changed = $6
         WHERE shard = $1 AND room = $2 AND id = $3 AND deleted_at IS NULL",
    )
    .bind(shard.number())
    .bind(number(edit.room.0))
    .bind(number(edit.message_id.0))
    .bind(&edit.message)
    .bind(OffsetDateTime::from(edit.edited_at))
    .bind(number(seq))
    .execute(session)
    .await?;
    Ok(())
}

/// Deletes messages: what stays says only that there was one.
pub(super) async fn delete(
    session: &mut PgConnection,
    shard: Shard,
    seq: u64,
    delete: &MessageDelete,
) -> sqlx::Result<()> {
    let ids: Vec<i64> = delete.messages_ids.iter().map(|id| number(id.0)).collect();
    sqlx::query(
        "UPDATE message SET body = '', deleted_at = $4, changed = $5
         WHERE shard = $1 AND room = $2 AND id = ANY($3) AND deleted_at IS NULL",
    )
    .bind(shard.number())
    .bind(number(delete.room.0))
    .bind(ids)
    .bind(OffsetDateTime::from(delete.deleted_at))
    .bind(number(seq))
    .execute(session)
    .await?;
    Ok(())
}

/// Moves a person's mark in a room, never back.
pub(super) async fn read(session: &mut PgConnection, shard: Shard, read: &MessageRead) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO read_mark (shard, room, user_id, message_id) VALUES ($1, $2, $3, $4)
         ON CONFLICT (shard, room, user_id) DO UPDATE
         SET message_id = greatest(read_mark.message_id, excluded.message_id)",
    )
    .bind(shard.number())
    .bind(number(read.room.0))
    .bind(read.user.as_str())
    .bind(number(read.message_id.0))
    .execute(session)
    .await?;
    Ok(())
}
