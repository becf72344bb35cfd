//! Reads rooms as one reader sees them.

use std::collections::BTreeSet;

use protocol::{
    clock::Timestamp,
    event::RoomKind,
    id::{RoomId, ShardCount, TeamId, UserId},
};
use sqlx::{AssertSqlSafe, FromRow, types::time::OffsetDateTime};

use super::{
    members::{self, MEMBERS_NAMED, Members},
    parse_kind, parse_user, parse_users, teams, to_i64, to_u64,
};
use crate::database::{QueryError, ReadPool};

/// Maximum people in a room who are named; if there are more, only their number is returned.
pub(crate) const PARTICIPANTS_NAMED_MAX: i64 = 1_000;
/// A room as one reader sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RoomView {
    pub(crate) id: RoomId,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) kind: RoomKind,
    pub(crate) creator: UserId,
    pub(crate) team: Option<TeamId>,
    pub(crate) created_at: Timestamp,
    pub(crate) is_active: bool,
    /// The first people who may join; empty if everyone may.
    pub(crate) users: Members,
    pub(crate) participants: PresentPeople,
    pub(crate) activity: Timestamp,
    pub(crate) unread: i64,
}

/// The people who are in a room now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PresentPeople {
    /// All of them, in order of id.
    Named(Vec<UserId>),
    /// Their number, if there are more than [`PARTICIPANTS_NAMED_MAX`].
    Counted(i64),
    /// Not known now.
    Unknown,
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
    active: bool,
    users: Vec<String>,
    users_count: i64,
    present: i64,
    participants: Vec<String>,
    activity: OffsetDateTime,
    unread: i64,
}

impl TryFrom<Row> for RoomView {
    type Error = QueryError;

    fn try_from(row: Row) -> Result<Self, QueryError> {
        let present = if row.present > PARTICIPANTS_NAMED_MAX {
            PresentPeople::Counted(row.present)
        } else {
            PresentPeople::Named(parse_users(&row.participants)?)
        };
        Ok(Self {
            id: RoomId(to_u64(row.id)?),
            name: row.name,
            description: row.description,
            kind: parse_kind(&row.kind)?,
            creator: parse_user(&row.creator)?,
            team: row.team.map(to_u64).transpose()?.map(TeamId),
            created_at: row.created_at.into(),
            is_active: row.active,
            users: Members { named: parse_users(&row.users)?, count: to_u64(row.users_count)? },
            participants: present,
            activity: row.activity.into(),
            unread: row.unread,
        })
    }
}

/// SQL for the fields of a room. `$1` = the reader, `$2` = the number of shards.
fn select_sql() -> String {
    format!(
        "SELECT r.id, coalesce(s.name, r.name) AS name, coalesce(s.description, r.description) AS description,
       now.kind, r.creator, r.team, r.created_at, r.active AND s.closed_at IS NULL AS active,
       CASE now.kind WHEN 'private' THEN {} ELSE coalesce(r.pair, '{{}}') END AS users,
       CASE now.kind WHEN 'private' THEN {} ELSE coalesce(cardinality(r.pair), 0) END AS users_count,
       here.present, coalesce(here.participants, '{{}}') AS participants",
        members::first_members_sql(MEMBERS_NAMED, "room", "r.id % $2", "r.id"),
        members::member_count_sql("room", "r.id % $2", "r.id"),
    )
}

/// SQL for the time of a room's last message and the number of messages that the reader has not read. The messages
/// are counted from the newest back to the reader's mark or own newest message; counting stops after 100 unread or
/// 1,000 read rows.
const ACTIVITY_AND_UNREAD_SQL: &str = "
       coalesce((SELECT m.created_at FROM message m
                 WHERE m.shard = r.id % $2 AND m.room = r.id ORDER BY m.id DESC LIMIT 1),
                r.created_at) AS activity,
       (SELECT coalesce(array_position(array_agg(new.is_own ORDER BY new.id DESC), true) - 1, count(*))
        FROM (SELECT m.id, m.author = $1 AS is_own
              FROM (SELECT m.id, m.author, m.deleted_at FROM message m
                    WHERE m.shard = r.id % $2 AND m.room = r.id AND m.id > coalesce(
                              (SELECT k.message_id FROM read_mark k WHERE k.shard = r.id % $2
                                   AND k.room = r.id AND k.user_id = $1), 0)
                    ORDER BY m.id DESC LIMIT 1000) m
              WHERE m.author = $1 OR m.deleted_at IS NULL ORDER BY m.id DESC LIMIT 100) new) AS unread";

/// SQL for the state of a room `r` and its current kind. Each room's state is looked up by its whole primary key.
pub(super) const ROOM_STATE_SQL: &str = "
LEFT JOIN LATERAL (SELECT s.name, s.description, s.private, s.closed_at, s.stopped FROM room_state s
                   WHERE s.shard = r.id % $2 AND s.room = r.id LIMIT 1) s ON true
CROSS JOIN LATERAL (SELECT CASE WHEN r.kind NOT IN ('public', 'private') THEN r.kind
                                WHEN coalesce(s.private, r.private) THEN 'private'
                                ELSE 'public' END AS kind) now";

/// SQL for the people who are in a room. At most 10,000 are counted.
const PARTICIPANTS_SQL: &str = "
CROSS JOIN LATERAL (SELECT count(*) AS present, (array_agg(p.name ORDER BY p.name))[1:1000] AS participants
                    FROM (SELECT DISTINCT p.user_id COLLATE \"C\" AS name FROM participant p
                          WHERE p.shard = r.id % $2 AND p.room = r.id AND p.present
                          ORDER BY 1 LIMIT 10000) p) here";

/// SQL for the condition that the reader may read a room `r`. `$3` = whether they are an admin, `$4` = the
/// organisation for which they answer visitors. Rooms of kinds that only a later version knows are shown to nobody.
/// `OFFSET 0` keeps each look-up separate: PostgreSQL may otherwise read all rooms of a person to answer it for one.
pub(super) const MAY_READ_SQL: &str =
    "(now.kind IN ('public', 'private', 'team', 'topic', 'direct', 'match', 'support')
AND ($3 OR CASE now.kind
    WHEN 'public' THEN true
    WHEN 'private' THEN r.creator = $1 OR EXISTS (SELECT FROM room_member m
        WHERE m.shard = r.id % $2 AND m.room = r.id AND m.user_id COLLATE \"C\" = $1 OFFSET 0)
    WHEN 'team' THEN EXISTS (SELECT FROM team_member m WHERE m.user_id = $1 AND m.team = r.team OFFSET 0)
        OR EXISTS (SELECT FROM team t WHERE t.shard = -1 AND t.id = r.team AND t.creator = $1 OFFSET 0)
    WHEN 'topic' THEN true
    WHEN 'support' THEN r.creator = $1 OR r.detail -> 'support' ->> 'org_id' = $4
    ELSE r.pair @> ARRAY[$1] END))";

/// Reads a room; `None` if Postgres has no room of that id.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn read(
    pool: &ReadPool,
    shards: ShardCount,
    id: RoomId,
    reader: &UserId,
) -> Result<Option<RoomView>, QueryError> {
    Ok(read_many(pool, shards, &[id], reader).await?.pop())
}

/// Reads these rooms in the given order; rooms that Postgres does not have are left out.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn read_many(
    pool: &ReadPool,
    shards: ShardCount,
    ids: &[RoomId],
    reader: &UserId,
) -> Result<Vec<RoomView>, QueryError> {
    if ids.is_empty() {
        return Ok(vec![]);
    }
    // The SQL is put together from constants only.
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(format!(
        "{}, {ACTIVITY_AND_UNREAD_SQL} FROM unnest($3::int8[]) WITH ORDINALITY AS requested (id, position)
         CROSS JOIN LATERAL (SELECT * FROM room r WHERE r.shard = -1 AND r.id = requested.id LIMIT 1) r {ROOM_STATE_SQL} {PARTICIPANTS_SQL}
         ORDER BY requested.position",
        select_sql()
    )))
    .bind(reader.as_str())
    .bind(i64::from(shards.get()))
    .bind(ids.iter().map(|id| to_i64(id.0)).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    let mut rooms: Vec<RoomView> = rows.into_iter().map(RoomView::try_from).collect::<Result<_, _>>()?;
    // A team's members may be in another shard than its rooms, and many rooms of a page may belong to one team: each
    // team is read once.
    let owners: BTreeSet<TeamId> = rooms.iter().filter_map(|room| room.team).collect();
    let members = teams::members_of_teams(pool, shards, &Vec::from_iter(owners)).await?;
    for room in &mut rooms {
        if let Some(users) = room.team.and_then(|team| members.get(&team)) {
            room.users.clone_from(users);
        }
    }
    Ok(rooms)
}

/// Returns the time of a room's last message, and how many of its messages the reader has not read, up to 100; `None`
/// if Postgres has no room of that id.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn activity_and_unread(
    pool: &ReadPool,
    shards: ShardCount,
    id: RoomId,
    reader: &UserId,
) -> Result<Option<(Timestamp, i64)>, QueryError> {
    // The SQL is put together from constants only.
    let sql = format!("SELECT {ACTIVITY_AND_UNREAD_SQL} FROM room r WHERE r.shard = -1 AND r.id = $3");
    let row: Option<(OffsetDateTime, i64)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(reader.as_str())
        .bind(i64::from(shards.get()))
        .bind(to_i64(id.0))
        .fetch_optional(pool)
        .await?;
    Ok(row.map(|(activity, unread)| (activity.into(), unread)))
}

/// Finds the room of a unique key in this generation, or in the latest one. Returns it with its generation.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn find_by_key(
    pool: &ReadPool,
    key: &str,
    generation: Option<u32>,
) -> Result<Option<(RoomId, u32)>, QueryError> {
    let row: Option<(i64, i32)> = sqlx::query_as(
        "SELECT id, generation FROM room
         WHERE shard = -1 AND key = $1 AND ($2::int8 IS NULL OR generation = $2)
         ORDER BY generation DESC LIMIT 1",
    )
    .bind(key)
    .bind(generation.map(i64::from))
    .fetch_optional(pool)
    .await?;
    row.map(|(id, generation)| Ok((RoomId(to_u64(id)?), generation.unsigned_abs()))).transpose()
}

/// Returns whether a room is a topic of a category.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn is_topic(pool: &ReadPool, id: RoomId, category: &str) -> Result<bool, QueryError> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM room WHERE shard = -1 AND id = $1 AND kind = 'topic'
                            AND detail -> 'topic' ->> 'category' = $2)",
    )
    .bind(to_i64(id.0))
    .bind(category)
    .fetch_one(pool)
    .await
    .map_err(QueryError::from)
}

/// Returns up to `limit` people who are in a room, with ids greater than `after`, in byte order of id.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_participants(
    pool: &ReadPool,
    shards: ShardCount,
    room: RoomId,
    after: Option<&UserId>,
    limit: i64,
) -> Result<Vec<UserId>, QueryError> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT user_id COLLATE \"C\" FROM participant
         WHERE shard = $1 % $2 AND room = $1 AND present AND user_id COLLATE \"C\" > $3
         ORDER BY 1 LIMIT $4",
    )
    .bind(to_i64(room.0))
    .bind(i64::from(shards.get()))
    // Every id is greater than the empty string.
    .bind(after.map_or("", UserId::as_str))
    .bind(limit)
    .fetch_all(pool)
    .await?;
    parse_users(&names)
}
