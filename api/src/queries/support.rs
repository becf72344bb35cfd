//! Reads support rooms.

use protocol::{
    error::Error,
    event::RoomDetail,
    id::{RoomId, ShardCount, UserId},
};
use sqlx::{AssertSqlSafe, FromRow, types::Json};

use super::{parse_user, to_i64, to_u64};
use crate::{
    database::{QueryError, ReadPool},
    page::Page,
};

/// A support room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SupportRoom {
    pub(crate) id: RoomId,
    /// The key that gives access to the room.
    pub(crate) secret: String,
    /// The id of the person who created the room: of a visitor without a token it has a prefix.
    pub(crate) creator: UserId,
    /// The visitor's id as their request named it.
    pub(crate) visitor: String,
    pub(crate) org_id: String,
    pub(crate) portfolio_name: String,
    pub(crate) product_name: String,
    pub(crate) event_id: String,
    pub(crate) ordinal: u32,
    pub(crate) is_active: bool,
    /// The text of the room's last message that is not deleted.
    pub(crate) last_message: Option<String>,
}

impl SupportRoom {
    /// Makes a room from the detail of its creation; `None` if that is not a support room's.
    pub(crate) fn from_detail(id: RoomId, creator: UserId, detail: RoomDetail) -> Option<Self> {
        let RoomDetail::Support { secret, visitor, org_id, portfolio_name, product_name, event_id, ordinal } =
            detail
        else {
            return None;
        };
        Some(Self {
            id,
            secret,
            creator,
            visitor,
            org_id,
            portfolio_name,
            product_name,
            event_id,
            ordinal,
            is_active: true,
            last_message: None,
        })
    }
}

#[derive(FromRow)]
struct Row {
    id: i64,
    creator: String,
    detail: Json<RoomDetail>,
    active: bool,
    last: Option<String>,
}

impl TryFrom<Row> for SupportRoom {
    type Error = QueryError;

    fn try_from(row: Row) -> Result<Self, QueryError> {
        let Json(detail) = row.detail;
        let created = Self::from_detail(RoomId(to_u64(row.id)?), parse_user(&row.creator)?, detail);
        let created =
            created.ok_or_else(|| Error::internal(&"a support room without what it was made with"))?;
        Ok(Self { is_active: row.active, last_message: row.last, ..created })
    }
}

/// SQL for the support rooms that fulfil the condition `made`. `$1` = the number of shards. Each room's state is
/// looked up by its primary key, so that reading one room never reads all.
fn select_sql(created: &str) -> AssertSqlSafe<String> {
    // The SQL is put together from constants only.
    AssertSqlSafe(format!(
        "SELECT r.id, r.creator, r.detail, r.active AND s.closed_at IS NULL AS active,
                (SELECT m.body FROM message m
                 WHERE m.shard = r.id % $1 AND m.room = r.id AND m.deleted_at IS NULL
                 ORDER BY m.id DESC LIMIT 1) AS last
         FROM (SELECT * FROM room WHERE shard = -1 AND kind = 'support' AND {created}) r
         LEFT JOIN LATERAL (SELECT s.closed_at FROM room_state s
                            WHERE s.shard = r.id % $1 AND s.room = r.id LIMIT 1) s ON true"
    ))
}

/// Reads a support room; `None` if Postgres has none of that id.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn read(
    pool: &ReadPool,
    shards: ShardCount,
    id: RoomId,
) -> Result<Option<SupportRoom>, QueryError> {
    let row: Option<Row> = sqlx::query_as(select_sql("id = $2"))
        .bind(i64::from(shards.get()))
        .bind(to_i64(id.0))
        .fetch_optional(pool)
        .await?;
    row.map(SupportRoom::try_from).transpose()
}

/// Finds a support room by its key; `None` if Postgres has none.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn find_by_secret(
    pool: &ReadPool,
    shards: ShardCount,
    secret: &str,
) -> Result<Option<SupportRoom>, QueryError> {
    let row: Option<Row> = sqlx::query_as(select_sql("detail -> 'support' ->> 'secret' = $2 LIMIT 1"))
        .bind(i64::from(shards.get()))
        .bind(secret)
        .fetch_optional(pool)
        .await?;
    row.map(SupportRoom::try_from).transpose()
}

/// A page of an organisation's list of rooms.
#[derive(Debug)]
pub(crate) struct SupportRoomPage {
    pub(crate) rooms: Vec<SupportRoom>,
    /// The `before` of the next page; `None` on the last one.
    pub(crate) next: Option<RoomId>,
}

/// Returns the newest `limit` open rooms about an organisation's product, older than `before`, if given.
///
/// Reads the newest `among` rooms only, open or closed, so that the closed rooms of years do not all count into one
/// answer.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_open(
    pool: &ReadPool,
    shards: ShardCount,
    (org_id, product_name): (&str, &str),
    before: Option<RoomId>,
    limit: i64,
    among: i64,
) -> Result<SupportRoomPage, QueryError> {
    const AMONG: &str =
        "detail -> 'support' ->> 'org_id' = $2 AND detail -> 'support' ->> 'product_name' = $3
                         AND id < $6 ORDER BY id DESC LIMIT $5";
    let mut sql = select_sql(AMONG);
    sql.0.push_str(" WHERE r.active AND s.closed_at IS NULL ORDER BY r.id DESC LIMIT $4");
    let rows: Vec<Row> = sqlx::query_as(sql)
        .bind(i64::from(shards.get()))
        .bind(org_id)
        .bind(product_name)
        .bind(limit + 1)
        .bind(among)
        .bind(before.map_or(i64::MAX, |room| to_i64(room.0)))
        .fetch_all(pool)
        .await?;
    let rooms = rows.into_iter().map(SupportRoom::try_from).collect::<Result<_, _>>()?;
    let page = Page::of(rooms, limit);
    let rooms = match page.last_if_more() {
        Some(last) => return Ok(SupportRoomPage { next: Some(last.id), rooms: page.entries }),
        None => page.entries,
    };
    // All rooms that were read are passed. If there were `among` of them, the next page begins before the last one.
    let last: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM room WHERE shard = -1 AND kind = 'support' AND detail -> 'support' ->> 'org_id' = $1
             AND detail -> 'support' ->> 'product_name' = $2 AND id < $3 ORDER BY id DESC OFFSET $4 LIMIT 1",
    )
    .bind(org_id)
    .bind(product_name)
    .bind(before.map_or(i64::MAX, |room| to_i64(room.0)))
    .bind(among - 1)
    .fetch_optional(pool)
    .await?;
    Ok(SupportRoomPage { rooms, next: last.map(to_u64).transpose()?.map(RoomId) })
}

/// Returns how many rooms a visitor has had at an organisation, open or closed.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn count_rooms_of_visitor(
    pool: &ReadPool,
    org_id: &str,
    visitor: &str,
) -> Result<u32, QueryError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM room WHERE shard = -1 AND kind = 'support'
         AND detail -> 'support' ->> 'org_id' = $1 AND detail -> 'support' ->> 'visitor' = $2",
    )
    .bind(org_id)
    .bind(visitor)
    .fetch_one(pool)
    .await?;
    Ok(u32::try_from(count).map_err(|error| Error::internal(&error))?)
}
