//! Messages as Postgres has them.

use shared::{
    clock::Timestamp,
    error::Error,
    id::{MessageId, RoomId, Shard, UserId},
};
use sqlx::{FromRow, PgPool, types::time::OffsetDateTime};

use crate::state::database;

/// A message that was not deleted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) id: MessageId,
    pub(crate) author: UserId,
    pub(crate) body: String,
    pub(crate) client_id: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) edited_at: Option<Timestamp>,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    author: String,
    body: String,
    client_id: Option<String>,
    created_at: OffsetDateTime,
    edited_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for Message {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: MessageId(u64::try_from(row.id).map_err(|error| Error::internal(&error))?),
            author: row.author.parse().map_err(|error| Error::internal(&error))?,
            body: row.body,
            client_id: row.client_id,
            created_at: row.created_at.into(),
            edited_at: row.edited_at.map(Timestamp::from),
        })
    }
}

/// Which part of a room's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// The newest ones.
    Last,
    /// Those right before an id.
    Before(u64),
    /// Those right after an id.
    After(u64),
}

const COLUMNS: &str = "SELECT id, author, body, client_id, created_at, edited_at FROM message \
                       WHERE shard = $1 AND room = $2 AND deleted_at IS NULL";

fn number(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// Up to `limit` messages of a room, in ascending order.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn page(
    pool: &PgPool,
    shard: Shard,
    room: RoomId,
    page: Page,
    limit: i64,
) -> Result<Vec<Message>, Error> {
    let (condition, id, order) = match page {
        Page::Last => ("id < $3", i64::MAX, "DESC"),
        Page::Before(id) => ("id < $3", number(id), "DESC"),
        Page::After(id) => ("id > $3", number(id), "ASC"),
    };
    let sql = format!("{COLUMNS} AND {condition} ORDER BY id {order} LIMIT $4");
    // Only constants are put together here.
    let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(shard.number())
        .bind(number(room.0))
        .bind(id)
        .bind(limit)
        .fetch_all(pool)
        .await
        .map_err(|error| database(&error))?;
    let mut messages = rows.into_iter().map(Message::try_from).collect::<Result<Vec<_>, _>>()?;
    if order == "DESC" {
        messages.reverse();
    }
    Ok(messages)
}

/// The author of a message that is there; `None` where it is not, or was deleted.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn author(
    pool: &PgPool,
    shard: Shard,
    room: RoomId,
    id: MessageId,
) -> Result<Option<UserId>, Error> {
    let author: Option<String> = sqlx::query_scalar(
        "SELECT author FROM message WHERE shard = $1 AND room = $2 AND id = $3 AND deleted_at IS NULL",
    )
    .bind(shard.number())
    .bind(number(room.0))
    .bind(number(id.0))
    .fetch_optional(pool)
    .await
    .map_err(|error| database(&error))?;
    author.map(|author| author.parse().map_err(|error| Error::internal(&error))).transpose()
}
