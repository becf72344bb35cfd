//! Reads invitations.

use protocol::{
    clock::Timestamp,
    event,
    id::{RoomId, ShardCount, UserId},
    subject::Channel,
};
use sqlx::{AssertSqlSafe, FromRow, types::time::OffsetDateTime};

use super::{parse_user, to_i64, to_u64};
use crate::database::{QueryError, ReadPool};

/// An invitation and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredInvitation {
    pub(crate) id: u64,
    pub(crate) invitation: event::Invitation,
    pub(crate) accepted: Option<bool>,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    room: i64,
    room_name: String,
    user_id: String,
    invited_by: String,
    created_at: OffsetDateTime,
    accepted: Option<bool>,
}

impl TryFrom<Row> for StoredInvitation {
    type Error = QueryError;

    fn try_from(row: Row) -> Result<Self, QueryError> {
        let invitation = event::Invitation {
            room: RoomId(to_u64(row.room)?),
            room_name: row.room_name,
            user: parse_user(&row.user_id)?,
            by: parse_user(&row.invited_by)?,
            created_at: Timestamp::from(row.created_at),
        };
        Ok(Self { id: to_u64(row.id)?, invitation, accepted: row.accepted })
    }
}

const SELECT: &str = "SELECT id, room, room_name, user_id, invited_by, created_at, accepted
                      FROM invitation WHERE shard = $1 AND user_id = $2";

/// Lists a person's unanswered invitations, newest first; older than `before`, if given.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_unanswered(
    pool: &ReadPool,
    shards: ShardCount,
    user: &UserId,
    before: Option<u64>,
    limit: i64,
) -> Result<Vec<StoredInvitation>, QueryError> {
    // The SQL is put together from constants only.
    let sql = format!("{SELECT} AND id < $3 AND accepted IS NULL ORDER BY id DESC LIMIT $4");
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Channel::User(user.clone()).shard(shards).number())
        .bind(user.as_str())
        .bind(before.map_or(i64::MAX, to_i64))
        .bind(limit)
        .fetch_all(pool)
        .await?;
    rows.into_iter().map(StoredInvitation::try_from).collect()
}

/// Finds one of a person's invitations; `None` if Postgres has none of that id.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn find(
    pool: &ReadPool,
    shards: ShardCount,
    user: &UserId,
    id: u64,
) -> Result<Option<StoredInvitation>, QueryError> {
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(format!("{SELECT} AND id = $3")))
        .bind(Channel::User(user.clone()).shard(shards).number())
        .bind(user.as_str())
        .bind(to_i64(id))
        .fetch_optional(pool)
        .await?;
    row.map(StoredInvitation::try_from).transpose()
}

/// Lists a person's unanswered invitations to a room, or to the rooms of a team.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_unanswered_into(
    pool: &ReadPool,
    shards: ShardCount,
    user: &UserId,
    into: &Channel,
) -> Result<Vec<StoredInvitation>, QueryError> {
    let (room, team) = match into {
        Channel::Room(room) => (Some(to_i64(room.0)), None),
        Channel::Team(team) => (None, Some(to_i64(team.0))),
        Channel::User(_) | Channel::System => return Ok(vec![]),
    };
    let sql = format!(
        "{SELECT} AND accepted IS NULL AND (room = $3 OR $4 = (
             SELECT room.team FROM room WHERE room.shard = $5 AND room.id = invitation.room))"
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Channel::User(user.clone()).shard(shards).number())
        .bind(user.as_str())
        .bind(room)
        .bind(team)
        .bind(Channel::System.shard(shards).number())
        .fetch_all(pool)
        .await?;
    rows.into_iter().map(StoredInvitation::try_from).collect()
}
