//! Invitations as Postgres has them.

use protocol::{
    clock::Timestamp,
    error::Error,
    event,
    id::{RoomId, ShardCount, UserId},
    subject::Channel,
};
use sqlx::{AssertSqlSafe, FromRow, types::time::OffsetDateTime};

use super::{number, unsigned, user};
use crate::database::{Database, query_error};

/// An invitation, and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invitation {
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

impl TryFrom<Row> for Invitation {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let invitation = event::Invitation {
            room: RoomId(unsigned(row.room)?),
            room_name: row.room_name,
            user: user(&row.user_id)?,
            by: user(&row.invited_by)?,
            created_at: Timestamp::from(row.created_at),
        };
        Ok(Self { id: unsigned(row.id)?, invitation, accepted: row.accepted })
    }
}

const SELECT: &str = "SELECT id, room, room_name, user_id, invited_by, created_at, accepted
                      FROM invitation WHERE shard = $1 AND user_id = $2";

/// A person's unanswered invitations, newest first; older than that one, where given.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn list(
    pool: &Database,
    shards: ShardCount,
    user: &UserId,
    before: Option<u64>,
    limit: i64,
) -> Result<Vec<Invitation>, Error> {
    // Only constants are put together here.
    let sql = format!("{SELECT} AND id < $3 AND accepted IS NULL ORDER BY id DESC LIMIT $4");
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Channel::User(user.clone()).shard(shards).number())
        .bind(user.as_str())
        .bind(before.map_or(i64::MAX, number))
        .bind(limit)
        .fetch_all(pool)
        .await
        .map_err(|error| query_error(&error))?;
    rows.into_iter().map(Invitation::try_from).collect()
}

/// One of a person's invitations.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn one(
    pool: &Database,
    shards: ShardCount,
    user: &UserId,
    id: u64,
) -> Result<Option<Invitation>, Error> {
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(format!("{SELECT} AND id = $3")))
        .bind(Channel::User(user.clone()).shard(shards).number())
        .bind(user.as_str())
        .bind(number(id))
        .fetch_optional(pool)
        .await
        .map_err(|error| query_error(&error))?;
    row.map(Invitation::try_from).transpose()
}

/// A person's unanswered invitations into a room, or into the rooms of a team.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn open(
    pool: &Database,
    shards: ShardCount,
    user: &UserId,
    into: &Channel,
) -> Result<Vec<Invitation>, Error> {
    let (room, team) = match into {
        Channel::Room(room) => (Some(number(room.0)), None),
        Channel::Team(team) => (None, Some(number(team.0))),
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
        .await
        .map_err(|error| query_error(&error))?;
    rows.into_iter().map(Invitation::try_from).collect()
}
