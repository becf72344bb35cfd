//! Lists rooms, newest first: finds the ids of a page through indexes alone, then reads the rooms.
//!
//! What must hold: the cost of a page does not depend on the number of rooms, or on the planner's statistics. It
//! reads the rows that it shows, for each kind of access a person may have, and the closed rooms between them, up to
//! a bound. Ids of rooms rise with their time of creation.

use protocol::{
    caller::Caller,
    id::{RoomId, ShardCount, UserId},
};
use sqlx::AssertSqlSafe;

use super::{
    parse_users,
    rooms::{MAY_READ_SQL, PARTICIPANTS_NAMED_MAX, ROOM_STATE_SQL},
    to_i64, to_u64,
};
use crate::{
    database::{QueryError, ReadPool},
    page::entry_count,
};

/// Rooms that one statement reads beyond the limit of the page.
const EXTRA_ROWS: i64 = 200;
/// Maximum statements for a page. More than one runs if many rooms are not shown.
const STATEMENTS_MAX: u32 = 5;

/// The ids of a page of rooms.
#[derive(Debug, Default)]
pub(crate) struct RoomIdPage {
    pub(crate) ids: Vec<RoomId>,
    /// The `before` of the next page; `None` on the last one.
    pub(crate) next: Option<RoomId>,
}

/// SQL for the rooms that a person may have access to, newest first; some of them they may no longer join. `$1` = the
/// person, `$2` = the number of shards, `$3` = whether they are an admin, `$4` = their organisation, `$5` = only
/// rooms before this one, `$6` = maximum rows.
fn candidates_sql(is_admin: bool) -> String {
    if is_admin {
        return "SELECT r.id FROM room r WHERE r.shard = -1 AND r.id < $5 ORDER BY r.id DESC LIMIT $6"
            .to_owned();
    }
    let ways = [
        "SELECT r.id FROM room r WHERE r.shard = -1 AND r.kind IN ('public', 'topic') AND r.id < $5",
        "SELECT s.room AS id FROM room_state s WHERE NOT s.private AND s.room < $5",
        "SELECT r.id FROM room r WHERE r.creator = $1 AND r.id < $5",
        "SELECT m.room AS id FROM room_member m WHERE m.user_id = $1 AND m.room < $5",
        "SELECT r.id FROM room r WHERE r.pair[1] = $1 AND r.kind = 'direct' AND r.pair IS NOT NULL AND r.id < $5",
        "SELECT r.id FROM room r WHERE r.pair[2] = $1 AND r.kind = 'direct' AND r.pair IS NOT NULL AND r.id < $5",
        "SELECT r.id FROM room r WHERE r.pair[1] = $1 AND r.kind = 'match' AND r.pair IS NOT NULL AND r.id < $5",
        "SELECT r.id FROM room r WHERE r.pair[2] = $1 AND r.kind = 'match' AND r.pair IS NOT NULL AND r.id < $5",
        "SELECT r.id FROM room r WHERE r.kind = 'support' AND r.detail -> 'support' ->> 'org_id' = $4 AND r.id < $5",
        "SELECT r.id FROM (SELECT m.team FROM team_member m WHERE m.user_id = $1
                           UNION SELECT t.id FROM team t WHERE t.creator = $1) t
         CROSS JOIN LATERAL (SELECT r.id FROM room r WHERE r.team = t.team AND r.id < $5
                             ORDER BY r.id DESC LIMIT $6) r",
    ];
    let ways: Vec<String> = ways.iter().map(|way| format!("({way} ORDER BY 1 DESC LIMIT $6)")).collect();
    format!("SELECT id FROM ({}) way ORDER BY id DESC LIMIT $6", ways.join(" UNION "))
}

/// Lists open rooms that the caller may join, older than `before`, if given.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_visible(
    pool: &ReadPool,
    shards: ShardCount,
    caller: &Caller,
    before: Option<RoomId>,
    limit: i64,
) -> Result<RoomIdPage, QueryError> {
    // The persister may write members of a room before the room itself: until then the row counts as not visible.
    let sql = format!(
        "SELECT way.id, coalesce(r.id IS NOT NULL AND s.closed_at IS NULL AND {MAY_READ_SQL}, false) FROM ({}) way
         LEFT JOIN LATERAL (SELECT * FROM room r WHERE r.shard = -1 AND r.id = way.id LIMIT 1) r ON true {ROOM_STATE_SQL}
         ORDER BY way.id DESC",
        candidates_sql(caller.is_admin)
    );
    let row_limit = limit + EXTRA_ROWS;
    let mut found = RoomIdPage { ids: vec![], next: before };
    for _ in 0..STATEMENTS_MAX {
        // The SQL is put together from constants only.
        let rows: Vec<(i64, bool)> = sqlx::query_as(AssertSqlSafe(sql.as_str()))
            .bind(caller.user.as_str())
            .bind(i64::from(shards.get()))
            .bind(caller.is_admin)
            .bind(caller.org_id.as_deref())
            .bind(found.next.map_or(i64::MAX, |room| to_i64(room.0)))
            .bind(row_limit)
            .fetch_all(pool)
            .await?;
        let is_end = rows.len() < entry_count(row_limit);
        for (id, may_enter) in rows {
            let id = RoomId(to_u64(id)?);
            if may_enter && found.ids.len() >= entry_count(limit) {
                // There is at least one more room.
                found.next = found.ids.last().copied();
                return Ok(found);
            }
            found.ids.extend(may_enter.then_some(id));
            found.next = Some(id);
        }
        if is_end {
            found.next = None;
            return Ok(found);
        }
    }
    Ok(found)
}

/// Lists the open rooms that a person is in and the caller may join, newest first, up to [`PARTICIPANTS_NAMED_MAX`].
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_rooms_of_person(
    pool: &ReadPool,
    shards: ShardCount,
    caller: &Caller,
    user: &UserId,
) -> Result<Vec<RoomId>, QueryError> {
    let sql = format!(
        "SELECT r.id FROM (SELECT DISTINCT p.room FROM participant p WHERE p.user_id = $5 AND p.present
                           ORDER BY p.room DESC LIMIT $6) p
         CROSS JOIN LATERAL (SELECT * FROM room r WHERE r.shard = -1 AND r.id = p.room LIMIT 1) r {ROOM_STATE_SQL}
         WHERE s.closed_at IS NULL AND {MAY_READ_SQL} ORDER BY r.id DESC"
    );
    let ids: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(caller.user.as_str())
        .bind(i64::from(shards.get()))
        .bind(caller.is_admin)
        .bind(caller.org_id.as_deref())
        .bind(user.as_str())
        .bind(PARTICIPANTS_NAMED_MAX)
        .fetch_all(pool)
        .await?;
    ids.into_iter().map(|id| to_u64(id).map(RoomId)).collect()
}

/// Lists open match rooms with their two people, newest first: those of one person, or all; older than `before`, if
/// given.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_match_rooms(
    pool: &ReadPool,
    shards: ShardCount,
    of: Option<&UserId>,
    before: Option<RoomId>,
    limit: i64,
) -> Result<Vec<(RoomId, Vec<UserId>)>, QueryError> {
    const OF_ONE: &str = "
        SELECT id, pair FROM (
            (SELECT r.id, r.pair FROM room r WHERE r.pair[1] = $4 AND r.kind = 'match' AND r.pair IS NOT NULL
                 AND r.id < $3 ORDER BY r.id DESC)
            UNION ALL
            (SELECT r.id, r.pair FROM room r WHERE r.pair[2] = $4 AND r.kind = 'match' AND r.pair IS NOT NULL
                 AND r.id < $3 ORDER BY r.id DESC)) two ORDER BY id DESC";
    const OF_ALL: &str = "
        SELECT r.id, r.pair FROM room r WHERE r.shard = -1 AND r.kind = 'match' AND r.id < $3 ORDER BY r.id DESC";
    // The SQL is put together from constants only.
    let query = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT r.id, coalesce(r.pair, '{{}}') FROM ({}) r
         LEFT JOIN LATERAL (SELECT s.closed_at FROM room_state s
                            WHERE s.shard = r.id % $1 AND s.room = r.id LIMIT 1) s ON true
         WHERE s.closed_at IS NULL ORDER BY r.id DESC LIMIT $2",
        if of.is_some() { OF_ONE } else { OF_ALL }
    )))
    .bind(i64::from(shards.get()))
    .bind(limit)
    .bind(before.map_or(i64::MAX, |room| to_i64(room.0)));
    let query = if let Some(user) = of { query.bind(user.as_str()) } else { query };
    let rows: Vec<(i64, Vec<String>)> = query.fetch_all(pool).await?;
    rows.into_iter().map(|(id, pair)| Ok((RoomId(to_u64(id)?), parse_users(&pair)?))).collect()
}
