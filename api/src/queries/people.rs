//! Reads descriptions of people.

use std::collections::HashMap;

use protocol::{
    event::Person,
    id::{Shard, ShardCount, UserId},
    subject::Channel,
};
use sqlx::types::Json;

use crate::database::{QueryError, ReadPool};

/// Returns the stored description of a person, and when it was issued, in seconds since 1970.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn read_profile(
    pool: &ReadPool,
    shard: Shard,
    user: &UserId,
) -> Result<Option<(i64, Person)>, QueryError> {
    let row: Option<(i64, Json<Person>)> =
        sqlx::query_as("SELECT issued_at, profile FROM person WHERE shard = $1 AND user_id = $2")
            .bind(shard.number())
            .bind(user.as_str())
            .fetch_optional(pool)
            .await?;
    Ok(row.map(|(issued_at, Json(person))| (issued_at, person)))
}

/// A person with all that is stored of them.
#[derive(Clone, Debug)]
pub(crate) struct PersonDetails {
    pub(crate) user: UserId,
    pub(crate) person: Person,
    pub(crate) is_online: bool,
    pub(crate) is_camera: bool,
}

impl PersonDetails {
    /// A person of whom nothing is stored.
    pub(crate) fn unknown(user: &UserId) -> Self {
        Self { user: user.clone(), person: Person::default(), is_online: false, is_camera: false }
    }
}

/// Reads these people. One without a stored description has an empty one.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn read_people(
    pool: &ReadPool,
    shards: ShardCount,
    users: &[UserId],
) -> Result<HashMap<UserId, PersonDetails>, QueryError> {
    let of: Vec<i16> = users.iter().map(|user| Channel::User(user.clone()).shard(shards).number()).collect();
    let names: Vec<&str> = users.iter().map(UserId::as_str).collect();
    let rows: Vec<(String, Option<Json<Person>>, bool, bool)> = sqlx::query_as(
        "SELECT a.user_id, p.profile,
                EXISTS (SELECT FROM online o WHERE o.shard = a.shard AND o.user_id = a.user_id AND o.present
                        OFFSET 0),
                coalesce(c.is_on, false)
         FROM unnest($1::int2[], $2::text[]) AS a (shard, user_id)
         LEFT JOIN LATERAL (SELECT p.profile FROM person p
                            WHERE p.shard = a.shard AND p.user_id = a.user_id LIMIT 1) p ON true
         LEFT JOIN LATERAL (SELECT c.is_on FROM camera c
                            WHERE c.shard = a.shard AND c.user_id = a.user_id LIMIT 1) c ON true",
    )
    .bind(of)
    .bind(names)
    .fetch_all(pool)
    .await?;
    let described = rows.into_iter().map(|(name, person, is_online, is_camera)| {
        let user = super::parse_user(&name)?;
        let person = person.map(|Json(person)| person).unwrap_or_default();
        Ok((user.clone(), PersonDetails { user, person, is_online, is_camera }))
    });
    described.collect()
}
