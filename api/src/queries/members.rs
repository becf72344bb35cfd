//! Reads members of rooms and teams.

use protocol::{
    id::{RoomId, ShardCount, TeamId, UserId},
    subject::Channel,
};
use sqlx::AssertSqlSafe;

use super::{parse_users, to_i64};
use crate::database::{QueryError, ReadPool};

/// Maximum members that are returned with a room or a team; pages list all of them.
pub(crate) const MEMBERS_NAMED: usize = 100;

/// The members of a room or a team.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    /// The first of them, in byte order of id.
    pub(crate) named: Vec<UserId>,
    /// How many there are.
    pub(crate) count: u64,
}

impl Members {
    /// Makes the list of these people, of whom only the first are named.
    pub(crate) fn from_users(users: impl IntoIterator<Item = UserId>) -> Self {
        let mut named: Vec<UserId> = users.into_iter().collect();
        let count = named.len() as u64;
        named.sort();
        named.truncate(MEMBERS_NAMED);
        Self { named, count }
    }

    /// Keeps only as many names as answers contain.
    pub(crate) fn truncated(&self) -> Self {
        Self { named: self.named.iter().take(MEMBERS_NAMED).cloned().collect(), count: self.count }
    }
}

/// SQL for the first `most` members as an array. `of` is `room` or `team`; `shard` and `id` are SQL expressions.
pub(crate) fn first_members_sql(most: usize, of: &str, shard: &str, id: &str) -> String {
    format!(
        "ARRAY(SELECT m.user_id FROM {of}_member m WHERE m.shard = {shard} AND m.{of} = {id}
               ORDER BY m.user_id COLLATE \"C\" LIMIT {most})"
    )
}

/// SQL for the number of members.
pub(crate) fn member_count_sql(of: &str, shard: &str, id: &str) -> String {
    format!("coalesce((SELECT c.members FROM {of}_size c WHERE c.shard = {shard} AND c.{of} = {id}), 0)")
}

/// SQL for the members among the people in the array `asked`, as an array. `OFFSET 0` makes PostgreSQL look each one
/// up.
pub(crate) fn members_among_sql(of: &str, shard: &str, id: &str, requested: &str) -> String {
    format!(
        "ARRAY(SELECT requested.user_id FROM unnest({requested}::text[]) AS requested (user_id)
               WHERE EXISTS (SELECT FROM {of}_member m WHERE m.shard = {shard} AND m.{of} = {id}
                                 AND m.user_id COLLATE \"C\" = requested.user_id OFFSET 0))"
    )
}

/// Returns up to `limit` members of a room, with ids greater than `after`, in byte order of id.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_room_members(
    pool: &ReadPool,
    shards: ShardCount,
    room: RoomId,
    after: Option<&UserId>,
    limit: i64,
) -> Result<Vec<UserId>, QueryError> {
    list_page(pool, "room", (Channel::Room(room).shard(shards).number(), room.0), after, limit).await
}

/// Returns up to `limit` members of a team, with ids greater than `after`, in byte order of id.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_team_members(
    pool: &ReadPool,
    shards: ShardCount,
    team: TeamId,
    after: Option<&UserId>,
    limit: i64,
) -> Result<Vec<UserId>, QueryError> {
    list_page(pool, "team", (Channel::Team(team).shard(shards).number(), team.0), after, limit).await
}

async fn list_page(
    pool: &ReadPool,
    of: &'static str,
    (shard, id): (i16, u64),
    after: Option<&UserId>,
    limit: i64,
) -> Result<Vec<UserId>, QueryError> {
    // The SQL is put together from constants only.
    let names: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT user_id FROM {of}_member WHERE shard = $1 AND {of} = $2 AND user_id COLLATE \"C\" > $3
         ORDER BY user_id COLLATE \"C\" LIMIT $4"
    )))
    .bind(shard)
    .bind(to_i64(id))
    // Every id is greater than the empty string.
    .bind(after.map_or("", UserId::as_str))
    .bind(limit)
    .fetch_all(pool)
    .await?;
    parse_users(&names)
}
