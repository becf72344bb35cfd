//! Reads who is in which room, and who is online.

use protocol::{
    error::Error,
    id::{RoomId, Shard, ShardCount, UserId},
    rpc::{ParticipantEntry, ParticipantKey, ParticipantsReply},
    subject::Channel,
};
use sqlx::{AssertSqlSafe, FromRow};

use super::{parse_user, to_i64, to_u64};
use crate::database::{ReadPool, query_error};

#[derive(FromRow)]
struct Row {
    as_of: i64,
    user_id: Option<String>,
    incarnation: Option<i64>,
    counter: Option<i64>,
}

/// Up to `limit` of who is in a room by the word of each process, after that place, up to an event of the
/// room's shard.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn list_participants(
    pool: &ReadPool,
    shards: ShardCount,
    room: RoomId,
    after: Option<ParticipantKey>,
    limit: i64,
) -> Result<ParticipantsReply, Error> {
    // No id is empty.
    let (user_id, incarnation) =
        after.map_or_else(Default::default, |key| (key.user.to_string(), key.incarnation.cast_signed()));
    // One statement sees one snapshot: the people and the watermark belong together.
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
    .await
    .map_err(|error| query_error(&error))?;
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

/// Every process that somebody is present by, in a room or online.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn list_present_incarnations(pool: &ReadPool) -> Result<Vec<u64>, Error> {
    // From one to the next by the index: there are few processes, and many people.
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
    .await
    .map_err(|error| query_error(&error))?;
    Ok(incarnations.into_iter().map(i64::cast_unsigned).collect())
}

/// Up to `limit` people of a shard who are present by a process: in a room, or, without one, online.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn list_people_of_process(
    pool: &ReadPool,
    shard: Shard,
    incarnation: u64,
    limit: i64,
) -> Result<Vec<(Option<RoomId>, UserId)>, Error> {
    let rows: Vec<(Option<i64>, String)> = sqlx::query_as(
        "SELECT room, user_id FROM participant WHERE incarnation = $1 AND shard = $2 AND present
         UNION ALL SELECT NULL, user_id FROM online WHERE incarnation = $1 AND shard = $2 AND present
         LIMIT $3",
    )
    .bind(incarnation.cast_signed())
    .bind(shard.number())
    .bind(limit)
    .fetch_all(pool)
    .await
    .map_err(|error| query_error(&error))?;
    rows.into_iter()
        .map(|(room, name)| Ok((room.map(to_u64).transpose()?.map(RoomId), parse_user(&name)?)))
        .collect()
}

/// Rooms of a person that are looked at, of each way to have one: the newest.
const ROOMS_COMPARED_MAX: usize = 1_000;

/// SQL for those of the newest rooms of the person in the parameter `one` that concern the person in `other` too.
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

/// Open rooms that concern both people: each is in it, may enter it by name, or made it or its team. Where both
/// have more than [`ROOMS_COMPARED_MAX`], the newest of each.
/// Some of them: enough to find one that both may enter.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn list_rooms_in_common(
    pool: &ReadPool,
    shards: ShardCount,
    one: &UserId,
    other: &UserId,
) -> Result<Vec<RoomId>, Error> {
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
        .await
        .map_err(|error| query_error(&error))?;
    rooms.into_iter().map(|room| to_u64(room).map(RoomId)).collect()
}

/// Messages of a room that are looked at for who has written in it: the newest.
const MESSAGES_SCANNED_MAX: i64 = 1_000;

/// Those of some rooms where people have all been: each has joined the room, turned to it, read or written in it.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn list_rooms_visited_by_both(
    pool: &ReadPool,
    shards: ShardCount,
    rooms: &[RoomId],
    people: [&UserId; 2],
) -> Result<Vec<RoomId>, Error> {
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
    .await
    .map_err(|error| query_error(&error))?;
    rooms.into_iter().map(|room| to_u64(room).map(RoomId)).collect()
}

/// Whether a person has a socket open anywhere.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn is_online(pool: &ReadPool, shards: ShardCount, user: &UserId) -> Result<bool, Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM online WHERE shard = $1 AND user_id = $2 AND present)")
        .bind(Channel::User(user.clone()).shard(shards).number())
        .bind(user.as_str())
        .fetch_one(pool)
        .await
        .map_err(|error| query_error(&error))
}
