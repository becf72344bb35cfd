//! Reads teams.

use std::collections::{HashMap, HashSet};

use protocol::{
    caller::Caller,
    clock::Timestamp,
    id::{ShardCount, TeamId, UserId},
    subject::Channel,
};
use sqlx::{AssertSqlSafe, FromRow, types::time::OffsetDateTime};

use super::{
    members::{self, MEMBERS_NAMED, Members},
    parse_user, parse_users, to_i64, to_u64,
};
use crate::database::{QueryError, ReadPool};

/// A team as Postgres has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TeamView {
    pub(crate) id: TeamId,
    pub(crate) name: String,
    pub(crate) creator: UserId,
    pub(crate) users: Members,
    pub(crate) created_at: Timestamp,
}

/// A team, and which of the people asked about are members, as of one event.
pub(crate) struct TeamSnapshot {
    pub(crate) team: TeamView,
    /// Those of the people asked about who are members.
    pub(crate) members: HashSet<UserId>,
    /// The last event of the team's shard that this contains.
    pub(crate) as_of: u64,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    name: String,
    creator: String,
    created_at: OffsetDateTime,
}

impl Row {
    fn into_view(self, users: Members) -> Result<TeamView, QueryError> {
        Ok(TeamView {
            id: TeamId(to_u64(self.id)?),
            name: self.name,
            creator: parse_user(&self.creator)?,
            users,
            created_at: self.created_at.into(),
        })
    }
}

/// Reads a team, and which of the `asked` people are members; `None` if Postgres has no team of that id.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn read_snapshot(
    pool: &ReadPool,
    shards: ShardCount,
    id: TeamId,
    users: &[&UserId],
) -> Result<Option<TeamSnapshot>, QueryError> {
    #[derive(FromRow)]
    struct Whole {
        #[sqlx(flatten)]
        row: Row,
        users: Vec<String>,
        users_count: i64,
        members: Vec<String>,
        as_of: i64,
    }
    // One statement reads one snapshot, so the members belong to the watermark. The SQL is put together from
    // constants only.
    let whole: Option<Whole> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT id, name, creator, created_at, {} AS users, {} AS users_count, {} AS members,
                (SELECT seq FROM watermark WHERE shard = $2) AS as_of
         FROM team WHERE shard = -1 AND id = $1",
        members::first_members_sql(MEMBERS_NAMED, "team", "$2", "$1"),
        members::member_count_sql("team", "$2", "$1"),
        members::members_among_sql("team", "$2", "$1", "$3"),
    )))
    .bind(to_i64(id.0))
    .bind(Channel::Team(id).shard(shards).number())
    .bind(users.iter().map(|user| user.as_str()).collect::<Vec<_>>())
    .fetch_optional(pool)
    .await?;
    let Some(Whole { row, users: named, users_count, members, as_of }) = whole else { return Ok(None) };
    let team = row.into_view(Members { named: parse_users(&named)?, count: to_u64(users_count)? })?;
    let members = parse_users(&members)?.into_iter().collect();
    Ok(Some(TeamSnapshot { team, members, as_of: to_u64(as_of)? }))
}

/// Returns the members of each of these teams: the first ones, and their number.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn members_of_teams(
    pool: &ReadPool,
    shards: ShardCount,
    teams: &[TeamId],
) -> Result<HashMap<TeamId, Members>, QueryError> {
    if teams.is_empty() {
        return Ok(HashMap::new());
    }
    let numbers: Vec<i64> = teams.iter().map(|team| to_i64(team.0)).collect();
    let of: Vec<i16> = teams.iter().map(|team| Channel::Team(*team).shard(shards).number()).collect();
    // The SQL is put together from constants only.
    let rows: Vec<(i64, Vec<String>, i64)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT t.team, {}, {} FROM unnest($1::int2[], $2::int8[]) AS t (shard, team)",
        members::first_members_sql(MEMBERS_NAMED, "team", "t.shard", "t.team"),
        members::member_count_sql("team", "t.shard", "t.team"),
    )))
    .bind(of)
    .bind(numbers)
    .fetch_all(pool)
    .await?;
    let members = rows.into_iter().map(|(team, named, count)| {
        Ok((TeamId(to_u64(team)?), Members { named: parse_users(&named)?, count: to_u64(count)? }))
    });
    members.collect()
}

/// Lists the caller's teams, or all teams for an admin, newest first; older than `before`, if given.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list(
    pool: &ReadPool,
    shards: ShardCount,
    caller: &Caller,
    before: Option<TeamId>,
    limit: i64,
) -> Result<Vec<TeamView>, QueryError> {
    // Ids of teams rise with their time of creation. A person's teams are read through two indexes: memberships, and
    // teams they created. The persister may write a membership before the team: teams without a row are left out.
    const OF_ONE: &str = "
        (SELECT m.team FROM team_member m
         CROSS JOIN LATERAL (SELECT FROM team t WHERE t.shard = -1 AND t.id = m.team LIMIT 1) t
         WHERE m.user_id = $3 AND m.team < $1 ORDER BY m.team DESC LIMIT $2)
        UNION (SELECT t.id FROM team t WHERE t.creator = $3 AND t.id < $1 ORDER BY t.id DESC LIMIT $2)";
    const ALL: &str =
        "SELECT t.id AS team FROM team t WHERE t.shard = -1 AND t.id < $1 ORDER BY t.id DESC LIMIT $2";
    // The SQL is put together from constants only.
    let statement = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT t.id, t.name, t.creator, t.created_at FROM ({}) own
         CROSS JOIN LATERAL (SELECT * FROM team t WHERE t.shard = -1 AND t.id = own.team LIMIT 1) t
         ORDER BY t.id DESC LIMIT $2",
        if caller.is_admin { ALL } else { OF_ONE }
    )))
    .bind(before.map_or(i64::MAX, |team| to_i64(team.0)))
    .bind(limit);
    let statement = if caller.is_admin { statement } else { statement.bind(caller.user.as_str()) };
    let rows: Vec<Row> = statement.fetch_all(pool).await?;
    let ids: Vec<TeamId> = rows.iter().map(|row| to_u64(row.id).map(TeamId)).collect::<Result<_, _>>()?;
    let mut members = members_of_teams(pool, shards, &ids).await?;
    rows.into_iter()
        .zip(ids)
        .map(|(row, id)| row.into_view(members.remove(&id).unwrap_or_default()))
        .collect()
}
