//! Searches messages by the words that are indexed.

use std::time::Duration;

use protocol::{
    caller::Caller,
    clock::Timestamp,
    error::{Error, ErrorCode},
    id::{MessageId, RoomId, ShardCount},
};
use sqlx::{AssertSqlSafe, Connection as _, FromRow, PgConnection, types::time::OffsetDateTime};

use super::{
    messages::{Message, Row},
    rooms::{MAY_READ_SQL, ROOM_STATE_SQL},
    search_terms::SearchTerms,
    to_i64, to_u64,
};
use crate::{
    database::{AcquiredConnection, QueryError, ReadPool},
    page::Page,
};

/// Maximum time of a search in PostgreSQL: one for words that most messages have would run for minutes.
pub(crate) const SEARCH_TIMEOUT: Duration = Duration::from_secs(2);

/// The last message of a page, after which the next page begins: its time, room and id.
pub(crate) type SearchCursor = (Timestamp, RoomId, MessageId);

/// The query of a search.
pub(crate) struct SearchQuery<'a> {
    /// Words in the syntax of PostgreSQL's `websearch_to_tsquery`: quotes, `or` and `-` have their usual meaning.
    pub(crate) words: &'a str,
    pub(crate) room: Option<RoomId>,
    pub(crate) after: Option<SearchCursor>,
    pub(crate) limit: i64,
}

/// The results of a search.
pub(crate) struct SearchResults {
    pub(crate) messages: Page<(RoomId, Message)>,
    /// By shard, the system shard first: epoch and sequence up to which messages are indexed.
    pub(crate) indexed_through: Vec<(u64, u64)>,
}

#[derive(FromRow)]
struct FoundRow {
    room: i64,
    #[sqlx(flatten)]
    row: Row,
}

const INDEXED_THROUGH_SQL: &str = "
SELECT w.epoch, coalesce((SELECT min(d.after_seq) FROM search_due d WHERE d.shard = w.shard), w.seq)
FROM watermark w ORDER BY w.shard";

/// SQL for the condition that a row `f` of the search table contains the words and the links.
const WORDS_MATCH_SQL: &str = "f.words @@ (websearch_to_tsquery('simple', $5) && $10::text::tsquery)";

/// SQL for matching messages of all rooms, through the index of words.
fn match_all_rooms_sql() -> String {
    format!("SELECT f.shard, f.room, f.id, f.created_at FROM message_search f WHERE {WORDS_MATCH_SQL}")
}

/// SQL for matching messages of a large room: matches in all rooms, through the index of words, then those of the
/// room. `OFFSET 0` keeps PostgreSQL from reading the whole room instead.
fn match_large_room_sql() -> String {
    format!(
        "SELECT f.* FROM ({} OFFSET 0) f WHERE f.shard = $11 % $2 AND f.room = $11",
        match_all_rooms_sql()
    )
}

/// SQL for matching messages of a small room: reads all its messages and compares each with the words.
fn match_small_room_sql() -> String {
    format!(
        "SELECT f.shard, f.room, f.id, f.created_at
         FROM (SELECT * FROM message_search f WHERE f.shard = $11 % $2 AND f.room = $11 OFFSET 0) f WHERE {WORDS_MATCH_SQL}"
    )
}

/// A room with more messages than this is large.
const LARGE_ROOM_MESSAGES: i64 = 5_000;

/// Returns whether a room has more than [`LARGE_ROOM_MESSAGES`] messages.
async fn is_large_room(
    transaction: &mut PgConnection,
    shards: ShardCount,
    room: RoomId,
) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM message_search f WHERE f.shard = $1 % $2 AND f.room = $1 ORDER BY f.id OFFSET $3)",
    )
    .bind(to_i64(room.0))
    .bind(i64::from(shards.get()))
    .bind(LARGE_ROOM_MESSAGES)
    .fetch_one(transaction)
    .await
}

/// Finds messages with these words in rooms that the caller may read, closed ones too, newest first.
///
/// # Errors
/// Fails if Postgres does not answer, or does not finish within [`SEARCH_TIMEOUT`].
pub(crate) async fn search(
    pool: &ReadPool,
    shards: ShardCount,
    caller: &Caller,
    query: &SearchQuery<'_>,
) -> Result<SearchResults, QueryError> {
    let mut connection = pool.acquire().await?;
    let found = pool.with_timeout(run_search(&mut connection, shards, caller, query)).await;
    connection.release_after(found).map_err(|error| {
        // 57014 is `query_canceled`: the statement has timed out.
        if error.as_database_error().and_then(|error| error.code()).as_deref() == Some("57014") {
            let detail = "The search took too long. Look for rarer words, or in one room.";
            return QueryError::Refused(Error::new(ErrorCode::Unavailable, detail));
        }
        QueryError::from(error)
    })?
}

async fn run_search(
    connection: &mut AcquiredConnection,
    shards: ShardCount,
    caller: &Caller,
    query: &SearchQuery<'_>,
) -> sqlx::Result<Result<SearchResults, QueryError>> {
    let mut transaction = connection.inner()?.begin().await?;
    let limited = format!("SET LOCAL statement_timeout = {}", SEARCH_TIMEOUT.as_millis());
    sqlx::raw_sql(AssertSqlSafe(limited)).execute(&mut *transaction).await?;
    // The position is read before the messages, so the result lacks no message up to it.
    let through: Vec<(i64, i64)> = sqlx::query_as(INDEXED_THROUGH_SQL).fetch_all(&mut *transaction).await?;
    let from = match query.room {
        None => match_all_rooms_sql(),
        Some(room) if is_large_room(&mut transaction, shards, room).await? => match_large_room_sql(),
        Some(_) => match_small_room_sql(),
    };
    // The SQL is put together from constants only.
    let sql = format!(
        "SELECT m.room, m.id, m.author, m.body, m.client_id, m.created_at, m.edited_at,
                m.detail
         FROM ({from} OFFSET 0) f
         CROSS JOIN LATERAL (SELECT * FROM message m WHERE m.shard = f.shard AND m.room = f.room AND m.id = f.id
                             LIMIT 1) m
         CROSS JOIN LATERAL (SELECT * FROM room r WHERE r.shard = -1 AND r.id = f.room LIMIT 1) r {ROOM_STATE_SQL}
         WHERE m.deleted_at IS NULL AND {MAY_READ_SQL}
           AND ($6::timestamptz IS NULL OR (f.created_at, f.room, f.id) < ($6, $7, $8))
         ORDER BY f.created_at DESC, f.room DESC, f.id DESC LIMIT $9"
    );
    let terms = SearchTerms::parse(query.words);
    let (moment, room, id) = query.after.map_or((None, 0, 0), |(moment, room, id)| {
        (Some(OffsetDateTime::from(moment)), to_i64(room.0), to_i64(id.0))
    });
    let mut found = sqlx::query_as::<_, FoundRow>(AssertSqlSafe(sql))
        .bind(caller.user.as_str())
        .bind(i64::from(shards.get()))
        .bind(caller.is_admin)
        .bind(caller.org_id.as_deref())
        .bind(terms.words)
        .bind(moment)
        .bind(room)
        .bind(id)
        .bind(query.limit + 1)
        .bind(terms.links);
    if let Some(room) = query.room {
        found = found.bind(to_i64(room.0));
    }
    let rows = found.fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    let message = |found: FoundRow| Ok((RoomId(to_u64(found.room)?), found.row.try_into()?));
    let position = |(epoch, seq)| Ok((to_u64(epoch)?, to_u64(seq)?));
    let messages = rows.into_iter().map(message).collect::<Result<Vec<_>, QueryError>>();
    let through = through.into_iter().map(position).collect::<Result<_, QueryError>>();
    Ok(messages.and_then(|messages| {
        Ok(SearchResults { messages: Page::of(messages, query.limit), indexed_through: through? })
    }))
}
