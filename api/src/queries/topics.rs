//! Reads open topics, by category.

use protocol::{
    clock::Timestamp,
    event::Person,
    id::{RoomId, ShardCount, UserId},
    subject::Channel,
};
use sqlx::{AssertSqlSafe, FromRow, types::Json, types::time::OffsetDateTime};

use super::{parse_user, rooms::ROOM_STATE_SQL, to_i64, to_u64};
use crate::database::{QueryError, ReadPool};

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Topic {
    pub(crate) id: RoomId,
    pub(crate) title: String,
    pub(crate) category: String,
    /// The name of its picture; `None` for the default one.
    pub(crate) img: Option<String>,
    pub(crate) creator: UserId,
    /// The creator's current user name.
    pub(crate) username: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) created_at: Timestamp,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    title: String,
    category: String,
    img: Option<String>,
    creator: String,
    description: Option<String>,
    created_at: OffsetDateTime,
}

/// Where a page of a category begins, and how many topics the category has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicPageStart {
    /// All topics on the page have this id or a higher one.
    first_id: i64,
    /// How many open topics from `first_id` on come before the page.
    skipped: i64,
    /// Number of open topics in the category.
    pub(crate) count: u64,
}

/// Finds the start of the page that follows `offset` open topics of a category. The persister counts open topics for
/// each thousand ids, so that a page reads at most a thousand rows more than it shows.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn find_position(
    pool: &ReadPool,
    category: &str,
    offset: u64,
) -> Result<TopicPageStart, QueryError> {
    let (count, from, skipped): (i64, Option<i64>, Option<i64>) = sqlx::query_as(
        "WITH part AS (
             SELECT t.part, sum(t.topics)::int8 AS topics FROM topic_count t WHERE t.category = $1 GROUP BY t.part
         ), counted AS (
             SELECT part, topics, (sum(topics) OVER (ORDER BY part))::int8 AS through FROM part
         ), first AS (
             SELECT part, through - topics AS before FROM counted WHERE through > $2 ORDER BY part LIMIT 1
         )
         SELECT coalesce((SELECT sum(topics) FROM part), 0)::int8, (SELECT part * 1000 FROM first),
                (SELECT $2 - before FROM first)",
    )
    .bind(category)
    .bind(to_i64(offset))
    .fetch_one(pool)
    .await?;
    let count = to_u64(count.max(0))?;
    Ok(TopicPageStart { first_id: from.unwrap_or(0), skipped: skipped.unwrap_or(0), count })
}

/// Returns up to `limit` open topics of a category, in order of id, from a page's start on.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn list(
    pool: &ReadPool,
    shards: ShardCount,
    category: &str,
    start: TopicPageStart,
    limit: u64,
) -> Result<Vec<Topic>, QueryError> {
    select_topics(pool, shards, category, "r.id >= $3", start.first_id, (start.skipped, to_i64(limit))).await
}

/// Reads an open topic of a category; `None` if there is none of that id.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn read(
    pool: &ReadPool,
    shards: ShardCount,
    category: &str,
    id: RoomId,
) -> Result<Option<Topic>, QueryError> {
    Ok(select_topics(pool, shards, category, "r.shard = -1 AND r.id = $3", to_i64(id.0), (0, 1)).await?.pop())
}

async fn select_topics(
    pool: &ReadPool,
    shards: ShardCount,
    category: &str,
    which: &str,
    id: i64,
    (offset, limit): (i64, i64),
) -> Result<Vec<Topic>, QueryError> {
    let sql = format!(
        "SELECT r.id, coalesce(s.name, r.name) AS title, r.detail -> 'topic' ->> 'category' AS category,
                r.detail -> 'topic' ->> 'img' AS img, r.creator,
                nullif(coalesce(s.description, r.description), '') AS description, r.created_at
         FROM (SELECT * FROM room r WHERE r.kind = 'topic' AND r.detail -> 'topic' ->> 'category' = $1 AND {which}
               ORDER BY r.id) r {ROOM_STATE_SQL}
         WHERE s.closed_at IS NULL ORDER BY r.id OFFSET $4 LIMIT $5"
    );
    // The SQL is put together from constants only.
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(category)
        .bind(i64::from(shards.get()))
        .bind(id)
        .bind(offset)
        .bind(limit)
        .fetch_all(pool)
        .await?;
    let mut topics: Vec<Topic> = rows.into_iter().map(Topic::try_from).collect::<Result<_, _>>()?;
    add_creator_names(pool, shards, &mut topics).await?;
    Ok(topics)
}

impl TryFrom<Row> for Topic {
    type Error = QueryError;

    fn try_from(row: Row) -> Result<Self, QueryError> {
        Ok(Self {
            id: RoomId(to_u64(row.id)?),
            title: row.title,
            category: row.category,
            img: row.img,
            creator: parse_user(&row.creator)?,
            username: None,
            description: row.description,
            created_at: row.created_at.into(),
        })
    }
}

/// Adds the creators' user names: people are in other shards than rooms.
async fn add_creator_names(
    pool: &ReadPool,
    shards: ShardCount,
    topics: &mut [Topic],
) -> Result<(), QueryError> {
    let creators = topics.iter().map(|topic| topic.creator.clone());
    let (numbers, names): (Vec<i16>, Vec<String>) =
        creators.map(|user| (Channel::User(user.clone()).shard(shards).number(), user.to_string())).unzip();
    let people: Vec<(String, Json<Person>)> = sqlx::query_as(
        "SELECT p.user_id, p.profile FROM unnest($1::int2[], $2::text[]) AS requested (shard, user_id)
         CROSS JOIN LATERAL (SELECT * FROM person p
                             WHERE p.shard = requested.shard AND p.user_id = requested.user_id LIMIT 1) p",
    )
    .bind(numbers)
    .bind(names)
    .fetch_all(pool)
    .await?;
    for topic in topics {
        let known = people.iter().find(|(user, _)| user == topic.creator.as_str());
        topic.username = known.and_then(|(_, Json(person))| person.username.clone());
    }
    Ok(())
}
