//! Writes new teams.

use protocol::{event::Team, id::Shard};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::database::to_i64;

/// Inserts a new team. The people named in it become members by events of their own.
pub(super) async fn insert(
    session: &mut PgConnection,
    shard: Shard,
    id: u64,
    team: &Team,
) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO team (shard, id, name, creator, created_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(shard.number())
        .bind(to_i64(id))
        .bind(&team.name)
        .bind(team.user.as_str())
        .bind(OffsetDateTime::from(team.created_at))
        .execute(session)
        .await?;
    Ok(())
}
