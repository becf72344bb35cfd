//! People as Postgres has them.

use shared::{
    error::Error,
    event::Person,
    id::{Shard, UserId},
};
use sqlx::{PgPool, types::Json};

use crate::state::database;

/// What is stored of a person, and when the token that said so was issued.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn person(
    pool: &PgPool,
    shard: Shard,
    user: &UserId,
) -> Result<Option<(i64, Person)>, Error> {
    let row: Option<(i64, Json<Person>)> =
        sqlx::query_as("SELECT issued_at, profile FROM person WHERE shard = $1 AND user_id = $2")
            .bind(shard.number())
            .bind(user.as_str())
            .fetch_optional(pool)
            .await
            .map_err(|error| database(&error))?;
    Ok(row.map(|(issued_at, Json(person))| (issued_at, person)))
}
