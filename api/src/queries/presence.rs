//! Reads which people are in which rooms, and who is online.

use protocol::{
    id::{RoomId, Shard, ShardCount, UserId},
    rpc::{ParticipantEntry, ParticipantKey, ParticipantsReply},
    subject::Channel,
};
use sqlx::{AssertSqlSafe, FromRow};

use super::{parse_user, to_i64, to_u64};
use crate::database::{QueryError, ReadPool};

#[derive(FromRow)]
struct Row {
    as_of: i64,
    user_id: Option<String>,
    incarnation: Option<i64>,
    counter: Option<i64>,
}

/// Returns up to `limit` people in a room, one entry for each incarnation that reported them, with keys greater than
/// `after`, and the last event of the room's shard that this contains.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_participants(
    pool: &ReadPool,
    shards: ShardCount,
    room: RoomId,
    after: Option<ParticipantKey>,
    limit: i64,
) -> Result<ParticipantsReply, QueryError> {
    // Every id is greater than the empty string.
    let (user_id, incarnation) =
        after.map_or_else(Default::default, |key| (key.user.to_string(), key.incarnation.cast_signed()));
    // One statement reads one snapshot, so the people belong to the watermark.
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT w.seq AS as_of, p.user_id, p.incarnation, p.counter FROM watermark w
         LEFT JOIN LATERAL (
             SELECT p.user_id, p.incarnation, p.counter FROM participant p
             WHERE p.shard = w.shard AND p.room = $2 AND p.present
               AND (p.user_id COLLATE \"C\", p.incarnation) > ($3, $4)
             ORDER BY p.user_id COLLATE \"C\", p.incarnation LIMIT $5) p ON true
         WHERE w.shard = $1",
    )
    .bind(Channel::Room(room).shard(shards).number())
    .bind(to_i64(room.0))
    .bind(user_id)
    .bind(incarnation)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    let as_of = rows.first().map_or(Ok(0), |row| to_u64(row.as_of))?;
    let mut present = Vec::with_capacity(rows.len());
    for row in rows {
        let (Some(name), Some(incarnation), Some(counter)) = (row.user_id, row.incarnation, row.counter)
        else {
            continue;
        };
        let counter = to_u64(counter)?;
        present.push(ParticipantEntry {
            user: parse_user(&name)?,
            incarnation: incarnation.cast_unsigned(),
            counter,
        });
    }
    Ok(ParticipantsReply { present, as_of, next: None })
}

/// Returns all incarnations that have people in a room or online.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_present_incarnations(pool: &ReadPool) -> Result<Vec<u64>, QueryError> {
    // Steps from one incarnation to the next through the index: there are few of them, and many people.
    let incarnations: Vec<i64> = sqlx::query_scalar(
        "WITH RECURSIVE in_rooms (incarnation) AS (
             SELECT min(incarnation) FROM participant WHERE present
             UNION ALL
             SELECT (SELECT min(p.incarnation) FROM participant p WHERE p.present AND p.incarnation > i.incarnation)
             FROM in_rooms i WHERE i.incarnation IS NOT NULL),
         online_by (incarnation) AS (
             SELECT min(incarnation) FROM online WHERE present
             UNION ALL
             SELECT (SELECT min(o.incarnation) FROM online o WHERE o.present AND o.incarnation > i.incarnation)
             FROM online_by i WHERE i.incarnation IS NOT NULL)
         SELECT incarnation FROM in_rooms WHERE incarnation IS NOT NULL
         UNION SELECT incarnation FROM online_by WHERE incarnation IS NOT NULL",
    )
    .fetch_all(pool)
    .await?;
    Ok(incarnations.into_iter().map(i64::cast_unsigned).collect())
}

/// Returns up to `limit` people of a shard who are present by an incarnation: with the room, or, if online, without
/// one.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_people_of_process(
    pool: &ReadPool,
    shard: Shard,
    incarnation: u64,
    limit: i64,
) -> Result<Vec<(Option<RoomId>, UserId)>, QueryError> {
    let rows: Vec<(Option<i64>, String)> = sqlx::query_as(
        "SELECT room, user_id FROM participant WHERE incarnation = $1 AND shard = $2 AND present
         UNION ALL SELECT NULL, user_id FROM online WHERE incarnation = $1 AND shard = $2 AND present
         LIMIT $3",
    )
    .bind(incarnation.cast_signed())
    .bind(shard.number())
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|(room, name)| Ok((room.map(to_u64).transpose()?.map(RoomId), parse_user(&name)?)))
        .collect()
}

/// Maximum rooms of a person that are compared, the newest of each kind of access.
const ROOMS_COMPARED_MAX: usize = 1_000;

/// SQL for those of the newest rooms of the person in parameter `one` that the person in `other` is connected with
/// too.
fn rooms_in_common_sql(one: &str, other: &str) -> String {
    format!(
        "SELECT r.id FROM (
             (SELECT p.room FROM participant p WHERE p.user_id = {one} AND p.present
              ORDER BY p.room DESC LIMIT {ROOMS_COMPARED_MAX})
             UNION (SELECT m.room FROM room_member m WHERE m.user_id = {one} ORDER BY m.room DESC LIMIT {ROOMS_COMPARED_MAX})
             UNION (SELECT r.id FROM (SELECT m.team FROM team_member m WHERE m.user_id = {one}
                                      ORDER BY m.team DESC LIMIT {ROOMS_COMPARED_MAX}) m
                    CROSS JOIN LATERAL (SELECT r.id FROM room r WHERE r.team = m.team
                                        ORDER BY r.id DESC LIMIT {ROOMS_COMPARED_MAX}) r LIMIT {ROOMS_COMPARED_MAX})) c (room)
         CROSS JOIN LATERAL (SELECT r.id, r.creator, r.team FROM room r
                             WHERE r.shard = -1 AND r.id = c.room LIMIT 1) r
         WHERE r.creator = {other}
            OR (SELECT bool_or(p.present) FROM participant p
                WHERE p.shard = r.id % $3 AND p.room = r.id AND p.user_id = {other})
            OR EXISTS (SELECT FROM room_member m WHERE m.shard = r.id % $3 AND m.room = r.id
                                                   AND m.user_id COLLATE \"C\" = {other} OFFSET 0)
            OR EXISTS (SELECT FROM team_member m WHERE m.user_id = {other} AND m.team = r.team OFFSET 0)
            OR EXISTS (SELECT FROM team t WHERE t.shard = -1 AND t.id = r.team AND t.creator = {other} OFFSET 0)"
    )
}

/// Returns up to 20 rooms that both people are connected with, newest first: each is in the room, is a member, or
/// created the room or its team. Only the newest [`ROOMS_COMPARED_MAX`] rooms of each person and kind of access are
/// compared.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_rooms_in_common(
    pool: &ReadPool,
    shards: ShardCount,
    one: &UserId,
    other: &UserId,
) -> Result<Vec<RoomId>, QueryError> {
    let sql = format!(
        "{} UNION {}
         UNION SELECT r.id FROM room r WHERE r.pair[1] = $1 AND r.kind IN ('direct', 'match') AND r.pair IS NOT NULL
               AND r.pair[2] = $2
         UNION SELECT r.id FROM room r WHERE r.pair[1] = $2 AND r.kind IN ('direct', 'match') AND r.pair IS NOT NULL
               AND r.pair[2] = $1
         ORDER BY 1 DESC LIMIT 20",
        rooms_in_common_sql("$1", "$2"),
        rooms_in_common_sql("$2", "$1"),
    );
    let rooms: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(one.as_str())
        .bind(other.as_str())
        .bind(i64::from(shards.get()))
        .fetch_all(pool)
        .await?;
    rooms.into_iter().map(|room| to_u64(room).map(RoomId)).collect()
}

/// Maximum messages of a room, the newest, that are read to find out who has written in it.
const MESSAGES_SCANNED_MAX: i64 = 1_000;

/// Returns those of these rooms that both people have been in: each has joined the room, selected it, or read or
/// written in it.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_rooms_visited_by_both(
    pool: &ReadPool,
    shards: ShardCount,
    rooms: &[RoomId],
    people: [&UserId; 2],
) -> Result<Vec<RoomId>, QueryError> {
    let of: Vec<i16> = rooms.iter().map(|room| Channel::Room(*room).shard(shards).number()).collect();
    let rooms: Vec<i64> = rooms.iter().map(|room| to_i64(room.0)).collect();
    let rooms: Vec<i64> = sqlx::query_scalar(
        "SELECT r.room FROM unnest($1::int2[], $2::int8[]) AS r (shard, room)
         WHERE NOT EXISTS (SELECT FROM unnest($3::int2[], $4::text[]) AS u (shard, id) WHERE NOT (
             EXISTS (SELECT FROM participant p WHERE p.shard = r.shard AND p.room = r.room AND p.user_id = u.id)
             OR EXISTS (SELECT FROM read_mark m WHERE m.shard = r.shard AND m.room = r.room AND m.user_id = u.id)
             OR EXISTS (SELECT FROM current_room c WHERE c.shard = u.shard AND c.user_id = u.id AND c.room = r.room)
             OR EXISTS (SELECT FROM (
                 SELECT m.author FROM message m WHERE m.shard = r.shard AND m.room = r.room
                 ORDER BY m.id DESC LIMIT $5) AS newest WHERE newest.author = u.id)))
         ORDER BY r.room DESC",
    )
    .bind(of)
    .bind(rooms)
    .bind(people.map(|user| Channel::User(user.clone()).shard(shards).number()))
    .bind(people.map(|user| user.as_str().to_owned()))
    .bind(MESSAGES_SCANNED_MAX)
    .fetch_all(pool)
    .await?;
    rooms.into_iter().map(|room| to_u64(room).map(RoomId)).collect()
}

/// Returns whether a person has a socket open on any node.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn is_online(
    pool: &ReadPool,
    shards: ShardCount,
    user: &UserId,
) -> Result<bool, QueryError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM online WHERE shard = $1 AND user_id = $2 AND present)")
        .bind(Channel::User(user.clone()).shard(shards).number())
        .bind(user.as_str())
        .fetch_one(pool)
        .await
        .map_err(QueryError::from)
}
