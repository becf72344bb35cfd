//! Rooms as Postgres has them, seen by one reader.

use shared::{
    clock::Timestamp,
    error::Error,
    event::RoomKind,
    id::{RoomId, ShardCount, TeamId, UserId},
    rules::{Caller, RoomFacts},
};
use sqlx::{FromRow, PgPool, types::time::OffsetDateTime};

use crate::state::database;

/// A room as one reader sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Room {
    pub(crate) id: RoomId,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) kind: RoomKind,
    pub(crate) creator: UserId,
    pub(crate) team: Option<TeamId>,
    pub(crate) created_at: Timestamp,
    pub(crate) users: Vec<UserId>,
    pub(crate) participants: Vec<UserId>,
    pub(crate) activity: Timestamp,
    pub(crate) unread: i64,
    pub(crate) is_member: bool,
}

impl Room {
    /// What the rules need to know.
    pub(crate) fn facts(&self) -> RoomFacts {
        RoomFacts { kind: self.kind, manager: self.creator.clone(), is_member: self.is_member }
    }
}

#[derive(FromRow)]
struct Row {
    id: i64,
    name: String,
    description: Option<String>,
    kind: String,
    creator: String,
    team: Option<i64>,
    created_at: OffsetDateTime,
    users: Vec<String>,
    participants: Vec<String>,
    activity: OffsetDateTime,
    unread: i64,
    is_member: bool,
}

fn people(names: &[String]) -> Result<Vec<UserId>, Error> {
    names.iter().map(|name| name.parse().map_err(|error| Error::internal(&error))).collect()
}

impl TryFrom<Row> for Room {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let number = |id: i64| u64::try_from(id).map_err(|error| Error::internal(&error));
        Ok(Self {
            id: RoomId(number(row.id)?),
            name: row.name,
            description: row.description,
            kind: RoomKind::parse(&row.kind).ok_or_else(|| Error::internal(&"a room of an unknown kind"))?,
            creator: row.creator.parse().map_err(|error| Error::internal(&error))?,
            team: row.team.map(number).transpose()?.map(TeamId),
            created_at: row.created_at.into(),
            users: people(&row.users)?,
            participants: people(&row.participants)?,
            activity: row.activity.into(),
            unread: row.unread,
            is_member: row.is_member,
        })
    }
}

/// `$1` = the reader, `$2` = the number of shards. What a room's own shard holds is looked up by
/// primary keys alone.
const SELECT: &str = "
SELECT r.id, r.name, r.description, r.kind, r.creator, r.team, r.created_at,
       ARRAY(SELECT m.user_id FROM room_member m
             WHERE m.shard = r.id % $2 AND m.room = r.id ORDER BY m.user_id) AS users,
       ARRAY(SELECT DISTINCT p.user_id FROM participant p
             WHERE p.shard = r.id % $2 AND p.room = r.id AND p.present ORDER BY p.user_id) AS participants,
       COALESCE((SELECT m.created_at FROM message m
                 WHERE m.shard = r.id % $2 AND m.room = r.id ORDER BY m.id DESC LIMIT 1),
                r.created_at) AS activity,
       (SELECT count(*) FROM (SELECT 1 FROM message m
                              WHERE m.shard = r.id % $2 AND m.room = r.id
                                AND m.author <> $1 AND m.deleted_at IS NULL LIMIT 100) unread) AS unread,
       EXISTS (SELECT 1 FROM room_member m
               WHERE m.shard = r.id % $2 AND m.room = r.id AND m.user_id = $1) AS is_member
FROM room r WHERE r.shard = -1";

/// A room; `None` where Postgres has none of that id.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn room(
    pool: &PgPool,
    shards: ShardCount,
    id: RoomId,
    reader: &UserId,
) -> Result<Option<Room>, Error> {
    let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{SELECT} AND r.id = $3")))
        .bind(reader.as_str())
        .bind(i64::from(shards.get()))
        .bind(i64::try_from(id.0).unwrap_or(i64::MAX))
        .fetch_optional(pool)
        .await
        .map_err(|error| database(&error))?;
    row.map(Room::try_from).transpose()
}

/// What the rules need to know of a room: less than all of it.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn facts(
    pool: &PgPool,
    shards: ShardCount,
    id: RoomId,
    reader: &UserId,
) -> Result<Option<RoomFacts>, Error> {
    let row: Option<(String, String, bool)> = sqlx::query_as(
        "SELECT r.kind, r.creator, EXISTS (SELECT 1 FROM room_member m
             WHERE m.shard = r.id % $2 AND m.room = r.id AND m.user_id = $1)
         FROM room r WHERE r.shard = -1 AND r.id = $3",
    )
    .bind(reader.as_str())
    .bind(i64::from(shards.get()))
    .bind(i64::try_from(id.0).unwrap_or(i64::MAX))
    .fetch_optional(pool)
    .await
    .map_err(|error| database(&error))?;
    let Some((kind, creator, is_member)) = row else { return Ok(None) };
    Ok(Some(RoomFacts {
        kind: RoomKind::parse(&kind).ok_or_else(|| Error::internal(&"a room of an unknown kind"))?,
        manager: creator.parse().map_err(|error| Error::internal(&error))?,
        is_member,
    }))
}

/// Where a list of rooms goes on: after the room made then, of that id.
pub(crate) type Cursor = (Timestamp, RoomId);

/// Rooms that the caller may enter, newest first.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn list(
    pool: &PgPool,
    shards: ShardCount,
    caller: &Caller,
    after: Option<Cursor>,
    limit: i64,
) -> Result<Vec<Room>, Error> {
    let (moment, id) = match after {
        Some((moment, id)) => (Some(OffsetDateTime::from(moment)), i64::try_from(id.0).unwrap_or(i64::MAX)),
        None => (None, i64::MAX),
    };
    let sql = format!(
        "{SELECT} AND ($6 OR r.kind = 'public' OR r.creator = $1 OR EXISTS (SELECT 1 FROM room_member m
             WHERE m.shard = r.id % $2 AND m.room = r.id AND m.user_id = $1))
         AND ($3::timestamptz IS NULL OR (r.created_at, r.id) < ($3, $4))
         ORDER BY r.created_at DESC, r.id DESC LIMIT $5"
    );
    let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(caller.user.as_str())
        .bind(i64::from(shards.get()))
        .bind(moment)
        .bind(id)
        .bind(limit)
        .bind(caller.is_admin)
        .fetch_all(pool)
        .await
        .map_err(|error| database(&error))?;
    rows.into_iter().map(Room::try_from).collect()
}
