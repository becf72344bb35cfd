//! Reads direct rooms, with the last messages there.
//!
//! Two statements read a list, however many rooms it has.

use std::collections::{BTreeMap, HashMap};

use protocol::{
    clock::Timestamp,
    id::{MessageId, RoomId, ShardCount, UserId},
    subject::Channel,
};
use sqlx::{AssertSqlSafe, FromRow, types::time::OffsetDateTime};

use super::{parse_user, parse_users, rooms::ROOM_STATE_SQL, to_i64, to_u64};
use crate::database::{QueryError, ReadPool};

/// Maximum messages returned with a room.
pub(crate) const MESSAGES_SHOWN_MAX: usize = 50;
/// Of a room's messages only those are returned that begin within this many bytes, counted from the newest back; the
/// newest is always returned.
const MESSAGES_SHOWN_MAX_BYTES: i64 = 128 << 10;

/// A direct room with its last messages.
#[derive(Clone, Debug)]
pub(crate) struct DirectRoom {
    pub(crate) id: RoomId,
    pub(crate) pair: Vec<UserId>,
    /// The person who asked for the room.
    pub(crate) creator: UserId,
    pub(crate) activity: Timestamp,
    /// Whether both have written since the room was created or last stopped.
    pub(crate) is_active: bool,
    /// Whether it is the reader's current room.
    pub(crate) is_current: bool,
    /// The last messages, by id.
    pub(crate) messages: BTreeMap<MessageId, DirectMessage>,
}

impl DirectRoom {
    /// Returns the person that `one` talks to. A reader who is neither of the two sees the room as its creator does.
    pub(crate) fn other_person(&self, one: &UserId) -> &UserId {
        let one = if self.pair.contains(one) { one } else { &self.creator };
        self.pair.iter().find(|user| *user != one).unwrap_or(&self.creator)
    }
}

/// A message of a direct room.
#[derive(Clone, Debug)]
pub(crate) struct DirectMessage {
    pub(crate) author: UserId,
    pub(crate) body: String,
    pub(crate) created_at: Timestamp,
    /// Whether the other person has read it.
    pub(crate) is_read: bool,
}

/// Returns whether a room was stopped and nobody has written in it since.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn is_stopped(
    pool: &ReadPool,
    shards: ShardCount,
    room: RoomId,
) -> Result<bool, QueryError> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM room_state s WHERE s.shard = $1 AND s.room = $2 AND s.stopped IS NOT NULL
             AND NOT EXISTS (SELECT FROM message m WHERE m.shard = $1 AND m.room = $2 AND m.id > s.stopped OFFSET 0))",
    )
    .bind(Channel::Room(room).shard(shards).number())
    .bind(to_i64(room.0))
    .fetch_one(pool)
    .await
    .map_err(QueryError::from)
}

#[derive(FromRow)]
struct Row {
    id: i64,
    pair: Vec<String>,
    creator: String,
    activity: OffsetDateTime,
    is_active: bool,
    is_current: bool,
}

impl TryFrom<Row> for DirectRoom {
    type Error = QueryError;

    fn try_from(row: Row) -> Result<Self, QueryError> {
        Ok(Self {
            id: RoomId(to_u64(row.id)?),
            pair: parse_users(&row.pair)?,
            creator: parse_user(&row.creator)?,
            activity: row.activity.into(),
            is_active: row.is_active,
            is_current: row.is_current,
            messages: BTreeMap::new(),
        })
    }
}

/// The rooms to read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RoomSelection {
    /// A single room.
    One(RoomId),
    /// The reader's rooms: the current one first, then by the time of the last message, newest first.
    Mine {
        /// Maximum rooms.
        limit: i64,
        /// The end of the page before: the next page has no current room. `None` for the first page.
        after: Option<RoomCursor>,
    },
}

/// The last room of a page, apart from the current one, with the time of its last message; `None` if the page had
/// only the current room.
pub(crate) type RoomCursor = Option<(Timestamp, RoomId)>;

/// SQL for the reader's direct rooms: one index for each position in the pair.
const ROOMS_OF_READER_SQL: &str = "
    (SELECT * FROM room r WHERE r.pair[1] = $1 AND r.kind = 'direct' AND r.pair IS NOT NULL
     UNION ALL SELECT * FROM room r WHERE r.pair[2] = $1 AND r.kind = 'direct' AND r.pair IS NOT NULL)";
const ONE_ROOM_SQL: &str = "(SELECT * FROM room r WHERE r.shard = -1 AND r.kind = 'direct' AND r.id = $5)";

/// SQL for a page of rooms. `$1` = the reader, in shard `$3`; `$2` = the number of shards; `$4` = the reader's
/// current room if it is newer than Postgres has it; `$5` = the id of [`ONE_ROOM_SQL`]; `$6` = maximum rows; `$7` =
/// whether this is a later page than the first; `$8`, `$9` = the last room of the page before.
///
/// The last message is looked up for all rooms of the reader, the authors only for the listed rooms, in `room_writer`
/// (see the migrations). Messages behind `search_due` of their shard are not in that table yet and are read from
/// `message`.
fn list_sql(which: &str) -> String {
    format!(
        "
WITH own AS (
    SELECT r.id, r.pair, r.creator, coalesce(last.created_at, r.created_at) AS activity,
           coalesce(s.stopped, 0) AS stopped, coalesce(r.id = coalesce($4, c.room), false) AS is_current
    FROM {which} r {ROOM_STATE_SQL}
    LEFT JOIN current_room c ON c.shard = $3 AND c.user_id = $1
    LEFT JOIN LATERAL (SELECT m.created_at FROM message m WHERE m.shard = r.id % $2 AND m.room = r.id
                       ORDER BY m.id DESC LIMIT 1) last ON true
    WHERE s.closed_at IS NULL
), listed AS (
    SELECT * FROM own o
    WHERE NOT $7 OR NOT o.is_current AND ($8::timestamptz IS NULL OR (o.activity, o.id) < ($8, $9))
    ORDER BY o.is_current DESC, o.activity DESC, o.id DESC LIMIT $6
)
SELECT l.id, l.pair, l.creator, l.activity, l.is_current,
       NOT EXISTS (SELECT FROM unnest(l.pair) AS one (user_id) WHERE NOT EXISTS (
           SELECT FROM room_writer w WHERE w.shard = l.id % $2 AND w.room = l.id AND w.user_id = one.user_id
               AND w.id > l.stopped OFFSET 0
       ) AND NOT EXISTS (
           SELECT FROM message m WHERE m.shard = l.id % $2 AND m.room = l.id AND m.id > greatest(l.stopped, coalesce(
                   (SELECT min(d.after_seq) FROM search_due d WHERE d.shard = l.id % $2),
                   (SELECT w.seq FROM watermark w WHERE w.shard = l.id % $2))) AND m.author = one.user_id OFFSET 0
       )) AS is_active
FROM listed l ORDER BY l.is_current DESC, l.activity DESC, l.id DESC"
    )
}

/// SQL for the last messages of rooms. `$1` = the rooms, `$2` = the number of shards, `$3` = maximum messages of a
/// room, `$4` = maximum bytes of a room.
const MESSAGES_SQL: &str = "
SELECT r.id AS room, m.id, m.author, m.body, m.created_at,
       EXISTS (SELECT FROM read_mark k WHERE k.shard = r.id % $2 AND k.room = r.id AND k.user_id = ANY(r.pair)
               AND k.user_id <> m.author AND k.message_id >= m.id OFFSET 0) AS is_readed
FROM unnest($1::int8[]) AS requested (id)
CROSS JOIN LATERAL (SELECT r.id, r.pair FROM room r WHERE r.shard = -1 AND r.id = requested.id LIMIT 1) r
CROSS JOIN LATERAL (
    SELECT last.*, sum(octet_length(last.body)) OVER (ORDER BY last.id DESC) - octet_length(last.body) AS newer
    FROM (SELECT m.id, m.author, m.body, m.created_at FROM message m
          WHERE m.shard = r.id % $2 AND m.room = r.id AND m.deleted_at IS NULL
          ORDER BY m.id DESC LIMIT $3) last) m
WHERE m.newer < $4";

/// Reads open direct rooms with their last messages. `current` is the reader's current room if it is newer than
/// Postgres has it.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_rooms(
    pool: &ReadPool,
    shards: ShardCount,
    reader: &UserId,
    which: RoomSelection,
    current: Option<RoomId>,
) -> Result<Vec<DirectRoom>, QueryError> {
    let (which, one, limit, after) = match which {
        RoomSelection::One(room) => (ONE_ROOM_SQL, Some(to_i64(room.0)), 1, None),
        RoomSelection::Mine { limit, after } => (ROOMS_OF_READER_SQL, None, limit, after),
    };
    let last = after.flatten();
    // The SQL is put together from constants only.
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(list_sql(which)))
        .bind(reader.as_str())
        .bind(i64::from(shards.get()))
        .bind(Channel::User(reader.clone()).shard(shards).number())
        .bind(current.map(|room| to_i64(room.0)))
        .bind(one)
        .bind(limit)
        .bind(after.is_some())
        .bind(last.map(|(activity, _)| OffsetDateTime::from(activity)))
        .bind(last.map(|(_, room)| to_i64(room.0)))
        .fetch_all(pool)
        .await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut rooms: Vec<DirectRoom> = rows.into_iter().map(DirectRoom::try_from).collect::<Result<_, _>>()?;
    let mut messages = list_messages(pool, shards, &ids).await?;
    for room in &mut rooms {
        room.messages = messages.remove(&room.id).unwrap_or_default();
    }
    Ok(rooms)
}

#[derive(FromRow)]
struct MessageRow {
    room: i64,
    id: i64,
    author: String,
    body: String,
    created_at: OffsetDateTime,
    is_readed: bool,
}

async fn list_messages(
    pool: &ReadPool,
    shards: ShardCount,
    rooms: &[i64],
) -> Result<HashMap<RoomId, BTreeMap<MessageId, DirectMessage>>, QueryError> {
    let mut messages: HashMap<RoomId, BTreeMap<MessageId, DirectMessage>> = HashMap::new();
    if rooms.is_empty() {
        return Ok(messages);
    }
    let rows: Vec<MessageRow> = sqlx::query_as(MESSAGES_SQL)
        .bind(rooms)
        .bind(i64::from(shards.get()))
        .bind(i64::try_from(MESSAGES_SHOWN_MAX).unwrap_or(i64::MAX))
        .bind(MESSAGES_SHOWN_MAX_BYTES)
        .fetch_all(pool)
        .await?;
    for row in rows {
        let message = DirectMessage {
            author: parse_user(&row.author)?,
            body: row.body,
            created_at: row.created_at.into(),
            is_read: row.is_readed,
        };
        messages.entry(RoomId(to_u64(row.room)?)).or_default().insert(MessageId(to_u64(row.id)?), message);
    }
    Ok(messages)
}

/// Returns the people a person has an open direct room with, those of the newest rooms first.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list_contacts(
    pool: &ReadPool,
    shards: ShardCount,
    of: &UserId,
    limit: i64,
) -> Result<Vec<UserId>, QueryError> {
    // The SQL is put together from constants only.
    let names: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT CASE r.pair[1] WHEN $1 THEN r.pair[2] ELSE r.pair[1] END FROM {ROOMS_OF_READER_SQL} r {ROOM_STATE_SQL}
         WHERE s.closed_at IS NULL ORDER BY r.id DESC LIMIT $3",
    )))
    .bind(of.as_str())
    .bind(i64::from(shards.get()))
    .bind(limit)
    .fetch_all(pool)
    .await?;
    parse_users(&names)
}
