//! Rooms as Postgres has them, seen by one reader.

use shared::{
    clock::Timestamp,
    error::Error,
    event::RoomKind,
    id::{RoomId, ShardCount, TeamId, UserId},
    rules::Caller,
};
use sqlx::{AssertSqlSafe, FromRow, types::time::OffsetDateTime};

use super::{facts::Facts, kind, number, teams, unsigned, user, users};
use crate::{database::Database, state::database};

/// Above so many people in a room they are counted, not named.
pub(crate) const NAMED_MAX: i64 = 1_000;

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
    pub(crate) active: bool,
    /// Who may enter, where not everyone may.
    pub(crate) users: Vec<UserId>,
    pub(crate) present: Present,
    pub(crate) activity: Timestamp,
    pub(crate) unread: i64,
}

/// Who is in a room now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Present {
    /// These.
    Named(Vec<UserId>),
    /// So many that they are not named.
    Counted(i64),
    /// It can't be told now.
    Unknown,
}

impl From<&Facts> for Room {
    /// What is known of a room by what rights in it depend on: not who is there, nor what was written.
    fn from(facts: &Facts) -> Self {
        let mut users: Vec<UserId> = facts.members.iter().cloned().collect();
        users.sort();
        Self {
            id: facts.room,
            name: facts.name.clone(),
            description: facts.description.clone(),
            kind: facts.kind,
            creator: facts.creator.clone(),
            team: facts.team,
            created_at: facts.created_at,
            active: !facts.closed,
            users: if facts.kind.is_open() { vec![] } else { users },
            present: Present::Unknown,
            activity: facts.created_at,
            unread: 0,
        }
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
    active: bool,
    users: Vec<String>,
    present: i64,
    participants: Vec<String>,
    activity: OffsetDateTime,
    unread: i64,
}

impl TryFrom<Row> for Room {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let present = if row.present > NAMED_MAX {
            Present::Counted(row.present)
        } else {
            Present::Named(users(&row.participants)?)
        };
        Ok(Self {
            id: RoomId(unsigned(row.id)?),
            name: row.name,
            description: row.description,
            kind: kind(&row.kind)?,
            creator: user(&row.creator)?,
            team: row.team.map(unsigned).transpose()?.map(TeamId),
            created_at: row.created_at.into(),
            active: row.active,
            users: users(&row.users)?,
            present,
            activity: row.activity.into(),
            unread: row.unread,
        })
    }
}

/// `$1` = the reader, `$2` = the number of shards. What a room's own shard holds is looked up by
/// primary keys alone.
const SELECT: &str = "
SELECT r.id, coalesce(s.name, r.name) AS name, coalesce(s.description, r.description) AS description,
       now.kind, r.creator, r.team, r.created_at, r.active AND s.closed_at IS NULL AS active,
       CASE now.kind
            WHEN 'private' THEN ARRAY(SELECT m.user_id FROM room_member m
                                      WHERE m.shard = r.id % $2 AND m.room = r.id
                                      ORDER BY m.user_id COLLATE \"C\")
            WHEN 'match' THEN coalesce(r.pair, '{}')
            WHEN 'direct' THEN coalesce(r.pair, '{}')
            ELSE '{}' END AS users,
       here.present, coalesce(here.participants, '{}') AS participants";

/// What has been written in it, as the reader has seen it: when the last was, and how many they have not read.
const TRAFFIC: &str = "
       coalesce((SELECT m.created_at FROM message m
                 WHERE m.shard = r.id % $2 AND m.room = r.id ORDER BY m.id DESC LIMIT 1),
                r.created_at) AS activity,
       (SELECT count(*) FROM (SELECT 1 FROM message m
                              WHERE m.shard = r.id % $2 AND m.room = r.id AND m.id > coalesce(
                                        (SELECT k.message_id FROM read_mark k WHERE k.shard = r.id % $2
                                             AND k.room = r.id AND k.user_id = $1), 0)
                                AND m.author <> $1 AND m.deleted_at IS NULL LIMIT 100) unread) AS unread";

/// A room as it is now, but for who is in it.
pub(super) const ROOM: &str = "
room r
LEFT JOIN room_state s ON s.shard = r.id % $2 AND s.room = r.id
CROSS JOIN LATERAL (SELECT CASE WHEN r.kind NOT IN ('public', 'private') THEN r.kind
                                WHEN coalesce(s.private, r.private) THEN 'private'
                                ELSE 'public' END AS kind) now";

/// Who is in it.
const HERE: &str = "
CROSS JOIN LATERAL (SELECT count(*) AS present,
                           (array_agg(p.user_id ORDER BY p.user_id COLLATE \"C\"))[1:1000] AS participants
                    FROM (SELECT DISTINCT p.user_id FROM participant p
                          WHERE p.shard = r.id % $2 AND p.room = r.id AND p.present) p) here";

/// What the rules let the reader see, said to Postgres. `$3`: they are an admin; `$4`: the organisation whose
/// visitors they answer. Rooms of kinds that only a later version knows are shown to nobody.
pub(super) const MAY: &str =
    "(now.kind IN ('public', 'private', 'team', 'topic', 'direct', 'match', 'support')
AND ($3 OR CASE now.kind
    WHEN 'public' THEN true
    WHEN 'private' THEN r.creator = $1 OR EXISTS (SELECT FROM room_member m
        WHERE m.shard = r.id % $2 AND m.room = r.id AND m.user_id = $1)
    WHEN 'team' THEN EXISTS (SELECT FROM team_member m WHERE m.user_id = $1 AND m.team = r.team)
        OR EXISTS (SELECT FROM team t WHERE t.shard = -1 AND t.id = r.team AND t.creator = $1)
    WHEN 'topic' THEN true
    WHEN 'support' THEN r.creator = $1 OR r.detail -> 'support' ->> 'org_id' = $4
    ELSE r.pair @> ARRAY[$1] END))";

/// A room; `None` where Postgres has none of that id.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn room(
    pool: &Database,
    shards: ShardCount,
    id: RoomId,
    reader: &UserId,
) -> Result<Option<Room>, Error> {
    // Only constants are put together here.
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(format!(
        "{SELECT}, {TRAFFIC} FROM {ROOM} {HERE} WHERE r.shard = -1 AND r.id = $3"
    )))
    .bind(reader.as_str())
    .bind(i64::from(shards.get()))
    .bind(number(id.0))
    .fetch_all(pool)
    .await
    .map_err(|error| database(&error))?;
    Ok(rooms(pool, shards, rows).await?.pop())
}

/// When a room was last written in, and how many of its messages the reader has not read, up to 100; `None`
/// where Postgres has none of that id.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn traffic(
    pool: &Database,
    shards: ShardCount,
    id: RoomId,
    reader: &UserId,
) -> Result<Option<(Timestamp, i64)>, Error> {
    // Only constants are put together here.
    let sql = format!("SELECT {TRAFFIC} FROM room r WHERE r.shard = -1 AND r.id = $3");
    let row: Option<(OffsetDateTime, i64)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(reader.as_str())
        .bind(i64::from(shards.get()))
        .bind(number(id.0))
        .fetch_optional(pool)
        .await
        .map_err(|error| database(&error))?;
    Ok(row.map(|(activity, unread)| (activity.into(), unread)))
}

/// The room of a key: of that generation, or the last one. With its generation.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn of_key(
    pool: &Database,
    key: &str,
    generation: Option<u32>,
) -> Result<Option<(RoomId, u32)>, Error> {
    let row: Option<(i64, i32)> = sqlx::query_as(
        "SELECT id, generation FROM room
         WHERE shard = -1 AND key = $1 AND ($2::int8 IS NULL OR generation = $2)
         ORDER BY generation DESC LIMIT 1",
    )
    .bind(key)
    .bind(generation.map(i64::from))
    .fetch_optional(pool)
    .await
    .map_err(|error| database(&error))?;
    row.map(|(id, generation)| Ok((RoomId(unsigned(id)?), generation.unsigned_abs()))).transpose()
}

/// Where a list of rooms goes on: after the room made then, of that id.
pub(crate) type Cursor = (Timestamp, RoomId);

/// Open rooms that the caller may enter, newest first.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn list(
    pool: &Database,
    shards: ShardCount,
    caller: &Caller,
    after: Option<Cursor>,
    limit: i64,
) -> Result<Vec<Room>, Error> {
    let (moment, id) = match after {
        Some((moment, id)) => (Some(OffsetDateTime::from(moment)), number(id.0)),
        None => (None, i64::MAX),
    };
    let sql = format!(
        "{SELECT}, {TRAFFIC} FROM {ROOM} {HERE} WHERE r.shard = -1 AND s.closed_at IS NULL AND {MAY}
         AND ($5::timestamptz IS NULL OR (r.created_at, r.id) < ($5, $6))
         ORDER BY r.created_at DESC, r.id DESC LIMIT $7"
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(caller.user.as_str())
        .bind(i64::from(shards.get()))
        .bind(caller.is_admin)
        .bind(caller.org_id.as_deref())
        .bind(moment)
        .bind(id)
        .bind(limit)
        .fetch_all(pool)
        .await
        .map_err(|error| database(&error))?;
    rooms(pool, shards, rows).await
}

/// Open rooms that a person is in and the caller may enter, the newest first, up to as many as are named.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn with(
    pool: &Database,
    shards: ShardCount,
    caller: &Caller,
    user: &UserId,
) -> Result<Vec<RoomId>, Error> {
    let sql = format!(
        "SELECT r.id FROM {ROOM} WHERE r.shard = -1 AND s.closed_at IS NULL AND {MAY}
         AND r.id IN (SELECT p.room FROM participant p WHERE p.user_id = $5 AND p.present)
         ORDER BY r.id DESC LIMIT $6"
    );
    let ids: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(caller.user.as_str())
        .bind(i64::from(shards.get()))
        .bind(caller.is_admin)
        .bind(caller.org_id.as_deref())
        .bind(user.as_str())
        .bind(NAMED_MAX)
        .fetch_all(pool)
        .await
        .map_err(|error| database(&error))?;
    ids.into_iter().map(|id| unsigned(id).map(RoomId)).collect()
}

/// Open match rooms with their two, the newest first: a person's, or all; before that one, where given.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn matches(
    pool: &Database,
    shards: ShardCount,
    of: Option<&UserId>,
    before: Option<RoomId>,
    limit: i64,
) -> Result<Vec<(RoomId, Vec<UserId>)>, Error> {
    let rows: Vec<(i64, Vec<String>)> = sqlx::query_as(
        "SELECT r.id, coalesce(r.pair, '{}') FROM room r
         LEFT JOIN room_state s ON s.shard = r.id % $1 AND s.room = r.id
         WHERE r.shard = -1 AND r.kind = 'match' AND s.closed_at IS NULL
           AND ($2::text IS NULL OR r.pair @> ARRAY[$2]) AND r.id < $4
         ORDER BY r.id DESC LIMIT $3",
    )
    .bind(i64::from(shards.get()))
    .bind(of.map(UserId::as_str))
    .bind(limit)
    .bind(before.map_or(i64::MAX, |room| number(room.0)))
    .fetch_all(pool)
    .await
    .map_err(|error| database(&error))?;
    rows.into_iter().map(|(id, pair)| Ok((RoomId(unsigned(id)?), users(&pair)?))).collect()
}

/// Whether a room is a topic of that category.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn is_topic(pool: &Database, id: RoomId, category: &str) -> Result<bool, Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM room WHERE shard = -1 AND id = $1 AND kind = 'topic'
                            AND detail -> 'topic' ->> 'category' = $2)",
    )
    .bind(number(id.0))
    .bind(category)
    .fetch_one(pool)
    .await
    .map_err(|error| database(&error))
}

/// Rows as rooms. Who belongs to their teams is read beside: a team's shard is no matter of its rooms.
async fn rooms(pool: &Database, shards: ShardCount, rows: Vec<Row>) -> Result<Vec<Room>, Error> {
    let mut rooms: Vec<Room> = rows.into_iter().map(Room::try_from).collect::<Result<_, _>>()?;
    let owners: Vec<TeamId> = rooms.iter().filter_map(|room| room.team).collect();
    if !owners.is_empty() {
        let members = teams::members(pool, shards, &owners).await?;
        for room in &mut rooms {
            if let Some(users) = room.team.and_then(|team| members.get(&team)) {
                room.users.clone_from(users);
            }
        }
    }
    Ok(rooms)
}

/// Up to `limit` of who is in a room, after that one, in the order of their ids by bytes.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn present(
    pool: &Database,
    shards: ShardCount,
    room: RoomId,
    after: Option<&UserId>,
    limit: i64,
) -> Result<Vec<UserId>, Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT user_id COLLATE \"C\" FROM participant
         WHERE shard = $1 % $2 AND room = $1 AND present AND user_id COLLATE \"C\" > $3
         ORDER BY 1 LIMIT $4",
    )
    .bind(number(room.0))
    .bind(i64::from(shards.get()))
    // No id is empty.
    .bind(after.map_or("", UserId::as_str))
    .bind(limit)
    .fetch_all(pool)
    .await
    .map_err(|error| database(&error))?;
    users(&names)
}
