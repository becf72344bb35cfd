//! Teams as Postgres has them.

use std::collections::HashMap;

use shared::{
    clock::Timestamp,
    error::Error,
    id::{ShardCount, TeamId, UserId},
    rules::Caller,
    subject::Channel,
};
use sqlx::{FromRow, types::time::OffsetDateTime};

use super::{number, unsigned, user, users};
use crate::{database::Database, state::database};

/// A team, up to an event of its shard.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Team {
    pub(crate) id: TeamId,
    pub(crate) name: String,
    pub(crate) creator: UserId,
    pub(crate) users: Vec<UserId>,
    pub(crate) created_at: Timestamp,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    name: String,
    creator: String,
    created_at: OffsetDateTime,
}

impl Row {
    fn team(self, users: Vec<UserId>) -> Result<Team, Error> {
        Ok(Team {
            id: TeamId(unsigned(self.id)?),
            name: self.name,
            creator: user(&self.creator)?,
            users,
            created_at: self.created_at.into(),
        })
    }
}

/// A team, and the last event of its shard that is counted in; `None` where Postgres has none of that id.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn team(
    pool: &Database,
    shards: ShardCount,
    id: TeamId,
) -> Result<Option<(Team, u64)>, Error> {
    #[derive(FromRow)]
    struct Whole {
        #[sqlx(flatten)]
        row: Row,
        users: Vec<String>,
        as_of: i64,
    }
    // One statement sees one snapshot: the members and the watermark belong together.
    let whole: Option<Whole> = sqlx::query_as(
        "SELECT id, name, creator, created_at,
                ARRAY(SELECT user_id FROM team_member WHERE shard = $2 AND team = $1
                      ORDER BY user_id COLLATE \"C\") AS users,
                (SELECT seq FROM watermark WHERE shard = $2) AS as_of
         FROM team WHERE shard = -1 AND id = $1",
    )
    .bind(number(id.0))
    .bind(Channel::Team(id).shard(shards).number())
    .fetch_optional(pool)
    .await
    .map_err(|error| database(&error))?;
    let Some(whole) = whole else { return Ok(None) };
    let members = users(&whole.users)?;
    Ok(Some((whole.row.team(members)?, unsigned(whole.as_of)?)))
}

/// Who belongs to each of these teams.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn members(
    pool: &Database,
    shards: ShardCount,
    teams: &[TeamId],
) -> Result<HashMap<TeamId, Vec<UserId>>, Error> {
    let numbers: Vec<i64> = teams.iter().map(|team| number(team.0)).collect();
    let of: Vec<i16> = teams.iter().map(|team| Channel::Team(*team).shard(shards).number()).collect();
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "SELECT team, user_id FROM team_member
         WHERE (shard, team) IN (SELECT * FROM unnest($1::int2[], $2::int8[]))
         ORDER BY team, user_id COLLATE \"C\"",
    )
    .bind(of)
    .bind(numbers)
    .fetch_all(pool)
    .await
    .map_err(|error| database(&error))?;
    let mut members: HashMap<TeamId, Vec<UserId>> = HashMap::new();
    for (team, name) in rows {
        members.entry(TeamId(unsigned(team)?)).or_default().push(user(&name)?);
    }
    Ok(members)
}

/// Teams of the caller, or all of them for an admin, newest first; after that one, where given.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn list(
    pool: &Database,
    shards: ShardCount,
    caller: &Caller,
    before: Option<TeamId>,
    limit: i64,
) -> Result<Vec<Team>, Error> {
    // Ids of teams rise with the time they were made.
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT t.id, t.name, t.creator, t.created_at FROM team t
         WHERE t.shard = -1 AND t.id < $2 AND ($4 OR t.creator = $1
             OR EXISTS (SELECT FROM team_member m WHERE m.user_id = $1 AND m.team = t.id))
         ORDER BY t.id DESC LIMIT $3",
    )
    .bind(caller.user.as_str())
    .bind(before.map_or(i64::MAX, |team| number(team.0)))
    .bind(limit)
    .bind(caller.is_admin)
    .fetch_all(pool)
    .await
    .map_err(|error| database(&error))?;
    let ids: Vec<TeamId> = rows.iter().map(|row| unsigned(row.id).map(TeamId)).collect::<Result<_, _>>()?;
    let mut members = members(pool, shards, &ids).await?;
    rows.into_iter().zip(ids).map(|(row, id)| row.team(members.remove(&id).unwrap_or_default())).collect()
}
