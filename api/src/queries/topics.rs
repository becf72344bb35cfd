//! Topics as Postgres has them: open ones, by category.

use shared::{
    clock::Timestamp,
    error::Error,
    event::Person,
    id::{RoomId, ShardCount, UserId},
    subject::Channel,
};
use sqlx::{AssertSqlSafe, FromRow, types::Json, types::time::OffsetDateTime};

use super::{number, rooms::ROOM, unsigned, user};
use crate::{database::Database, state::database};

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Topic {
    pub(crate) id: RoomId,
    pub(crate) title: String,
    pub(crate) category: String,
    /// Its picture's name; `None` is the default one.
    pub(crate) img: Option<String>,
    pub(crate) creator: UserId,
    /// The creator, as they call themselves now.
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

/// `$1` = the category, `$2` = the number of shards.
const OPEN: &str = "WHERE r.shard = -1 AND r.kind = 'topic' AND r.detail -> 'topic' ->> 'category' = $1
                    AND s.closed_at IS NULL";

/// How many topics of a category are open.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn count(pool: &Database, shards: ShardCount, category: &str) -> Result<u64, Error> {
    // Only constants are put together here.
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {ROOM} {OPEN}")))
        .bind(category)
        .bind(i64::from(shards.get()))
        .fetch_one(pool)
        .await
        .map_err(|error| database(&error))?;
    unsigned(count)
}

/// The open topics of a category in the order of their ids, from the `offset`-th on; or the one of that id.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn page(
    pool: &Database,
    shards: ShardCount,
    category: &str,
    id: Option<RoomId>,
    offset: u64,
    limit: u64,
) -> Result<Vec<Topic>, Error> {
    let sql = format!(
        "SELECT r.id, coalesce(s.name, r.name) AS title, r.detail -> 'topic' ->> 'category' AS category,
                r.detail -> 'topic' ->> 'img' AS img, r.creator,
                nullif(coalesce(s.description, r.description), '') AS description, r.created_at
         FROM {ROOM} {OPEN} AND ($3::int8 IS NULL OR r.id = $3) ORDER BY r.id OFFSET $4 LIMIT $5"
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(category)
        .bind(i64::from(shards.get()))
        .bind(id.map(|id| number(id.0)))
        .bind(number(offset))
        .bind(number(limit))
        .fetch_all(pool)
        .await
        .map_err(|error| database(&error))?;
    let mut topics: Vec<Topic> = rows.into_iter().map(Topic::try_from).collect::<Result<_, _>>()?;
    name(pool, shards, &mut topics).await?;
    Ok(topics)
}

impl TryFrom<Row> for Topic {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: RoomId(unsigned(row.id)?),
            title: row.title,
            category: row.category,
            img: row.img,
            creator: user(&row.creator)?,
            username: None,
            description: row.description,
            created_at: row.created_at.into(),
        })
    }
}

/// Adds what the creators call themselves: people are in other shards than rooms.
async fn name(pool: &Database, shards: ShardCount, topics: &mut [Topic]) -> Result<(), Error> {
    let creators = topics.iter().map(|topic| topic.creator.clone());
    let (numbers, names): (Vec<i16>, Vec<String>) =
        creators.map(|user| (Channel::User(user.clone()).shard(shards).number(), user.to_string())).unzip();
    let people: Vec<(String, Json<Person>)> = sqlx::query_as(
        "SELECT p.user_id, p.profile FROM person p
         WHERE (p.shard, p.user_id) IN (SELECT * FROM unnest($1::int2[], $2::text[]))",
    )
    .bind(numbers)
    .bind(names)
    .fetch_all(pool)
    .await
    .map_err(|error| database(&error))?;
    for topic in topics {
        let known = people.iter().find(|(user, _)| user == topic.creator.as_str());
        topic.username = known.and_then(|(_, Json(person))| person.username.clone());
    }
    Ok(())
}
