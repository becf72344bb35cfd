//! Reads messages.

use protocol::{
    clock::Timestamp,
    event::MessageDetail,
    id::{MessageId, RoomId, Shard, UserId},
};
use sqlx::{
    FromRow,
    types::{Json, time::OffsetDateTime},
};

use super::{parse_user, to_i64, to_u64};
use crate::database::{QueryError, ReadPool};

/// A message that was not deleted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) id: MessageId,
    pub(crate) author: UserId,
    pub(crate) body: String,
    pub(crate) client_id: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) edited_at: Option<Timestamp>,
    /// Fields that only messages in rooms of this kind have.
    pub(crate) detail: Option<MessageDetail>,
}

#[derive(FromRow)]
pub(super) struct Row {
    id: i64,
    author: String,
    body: String,
    client_id: Option<String>,
    created_at: OffsetDateTime,
    edited_at: Option<OffsetDateTime>,
    detail: Option<Json<MessageDetail>>,
}

impl TryFrom<Row> for Message {
    type Error = QueryError;

    fn try_from(row: Row) -> Result<Self, QueryError> {
        Ok(Self {
            id: MessageId(to_u64(row.id)?),
            author: parse_user(&row.author)?,
            body: row.body,
            client_id: row.client_id,
            created_at: row.created_at.into(),
            edited_at: row.edited_at.map(Timestamp::from),
            detail: row.detail.map(|Json(detail)| detail),
        })
    }
}

/// The part of a room's history to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HistoryPage {
    /// The newest messages.
    Newest,
    /// The messages right before an id.
    Before(u64),
    /// The messages right after an id.
    After(u64),
}

const COLUMNS: &str = "SELECT id, author, body, client_id, created_at, edited_at, detail FROM message \
                       WHERE shard = $1 AND room = $2 AND deleted_at IS NULL";

/// Returns up to `limit` messages of a room, those nearest to where the page begins first: in descending order of id,
/// except for [`HistoryPage::After`].
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list(
    pool: &ReadPool,
    shard: Shard,
    room: RoomId,
    page: HistoryPage,
    limit: i64,
) -> Result<Vec<Message>, QueryError> {
    let (condition, id, order) = match page {
        HistoryPage::Newest => ("id < $3", i64::MAX, "DESC"),
        HistoryPage::Before(id) => ("id < $3", to_i64(id), "DESC"),
        HistoryPage::After(id) => ("id > $3", to_i64(id), "ASC"),
    };
    let sql = format!("{COLUMNS} AND {condition} ORDER BY id {order} LIMIT $4");
    // The SQL is put together from constants only.
    let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(shard.number())
        .bind(to_i64(room.0))
        .bind(id)
        .bind(limit)
        .fetch_all(pool)
        .await?;
    rows.into_iter().map(Message::try_from).collect()
}

/// Returns the author of a message, and the sequence of the event that deleted it, if it was deleted; `None` if
/// Postgres has no such message.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn author_and_deletion(
    pool: &ReadPool,
    shard: Shard,
    room: RoomId,
    id: MessageId,
) -> Result<Option<(UserId, Option<u64>)>, QueryError> {
    let row: Option<(String, Option<i64>)> = sqlx::query_as(
        "SELECT author, CASE WHEN deleted_at IS NOT NULL THEN coalesce(changed, 0) END
         FROM message WHERE shard = $1 AND room = $2 AND id = $3",
    )
    .bind(shard.number())
    .bind(to_i64(room.0))
    .bind(to_i64(id.0))
    .fetch_optional(pool)
    .await?;
    row.map(|(author, deleted)| Ok((parse_user(&author)?, deleted.map(to_u64).transpose()?))).transpose()
}

/// Returns the last message of a room that a person has marked as read.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn read_mark(
    pool: &ReadPool,
    shard: Shard,
    room: RoomId,
    user: &UserId,
) -> Result<Option<MessageId>, QueryError> {
    let mark: Option<i64> = sqlx::query_scalar(
        "SELECT message_id FROM read_mark WHERE shard = $1 AND room = $2 AND user_id = $3",
    )
    .bind(shard.number())
    .bind(to_i64(room.0))
    .bind(user.as_str())
    .fetch_optional(pool)
    .await?;
    mark.map(|mark| to_u64(mark).map(MessageId)).transpose()
}

/// Returns whether a message was sent to a room, deleted or not.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn exists(
    pool: &ReadPool,
    shard: Shard,
    room: RoomId,
    id: MessageId,
) -> Result<bool, QueryError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM message WHERE shard = $1 AND room = $2 AND id = $3)")
        .bind(shard.number())
        .bind(to_i64(room.0))
        .bind(to_i64(id.0))
        .fetch_one(pool)
        .await
        .map_err(QueryError::from)
}

/// A message as it is now that was sent, edited or deleted after an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChangedMessage {
    pub(crate) message: Message,
    /// The sequence of the last event that changed it; for an unchanged message its own.
    pub(crate) last_event: u64,
    pub(crate) deleted_at: Option<Timestamp>,
}

/// A position among the changes of a room: an event's sequence, and, of the messages that this event changed, one.
pub(crate) type ChangeCursor = (u64, Option<MessageId>);

#[derive(FromRow)]
struct ChangedRow {
    #[sqlx(flatten)]
    row: Row,
    last: i64,
    deleted_at: Option<OffsetDateTime>,
}

/// SQL for new and changed messages: each half uses its own index. `$5` = maximum rows.
const CHANGES_SQL: &str = "
SELECT * FROM (
    SELECT id, author, body, client_id, created_at, edited_at, detail, deleted_at, changed AS last FROM message
    WHERE shard = $1 AND room = $2 AND changed >= $3 AND (changed, id) > ($3, $4)
    ORDER BY changed, id LIMIT $5) old
UNION ALL SELECT * FROM (
    SELECT id, author, body, client_id, created_at, edited_at, detail, deleted_at, id AS last FROM message
    WHERE shard = $1 AND room = $2 AND id > $3 AND changed IS NULL ORDER BY id LIMIT $5) new
ORDER BY last, id LIMIT $5";

/// Returns up to `limit` messages of a room that are new or were changed after a position, in the order of their last
/// events.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_changes(
    pool: &ReadPool,
    shard: Shard,
    room: RoomId,
    (event, message): ChangeCursor,
    limit: i64,
) -> Result<Vec<ChangedMessage>, QueryError> {
    let rows: Vec<ChangedRow> = sqlx::query_as(CHANGES_SQL)
        .bind(shard.number())
        .bind(to_i64(room.0))
        .bind(to_i64(event))
        .bind(message.map_or(i64::MAX, |message| to_i64(message.0)))
        .bind(limit)
        .fetch_all(pool)
        .await?;
    let changed = |row: ChangedRow| {
        Ok(ChangedMessage {
            message: row.row.try_into()?,
            last_event: to_u64(row.last)?,
            deleted_at: row.deleted_at.map(Timestamp::from),
        })
    };
    rows.into_iter().map(changed).collect()
}
