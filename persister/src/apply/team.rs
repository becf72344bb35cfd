//! Teams as they were made, and who belongs to them.

use shared::{
    event::{Team, TeamMember},
    id::Shard,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::watermark::number;

/// Notes a new team. The people named in it become members by events of their own.
pub(super) async fn make(session: &mut PgConnection, shard: Shard, id: u64, team: &Team) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO team (shard, id, name, creator, created_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(shard.number())
        .bind(number(id))
        .bind(&team.name)
        .bind(team.user.as_str())
        .bind(OffsetDateTime::from(team.created_at))
        .execute(session)
        .await?;
    Ok(())
}

/// A person belongs to the team from now on.
pub(super) async fn add_member(
    session: &mut PgConnection,
    shard: Shard,
    member: &TeamMember,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO team_member (shard, team, user_id, added_by) VALUES ($1, $2, $3, $4)
         ON CONFLICT (shard, team, user_id) DO NOTHING",
    )
    .bind(shard.number())
    .bind(number(member.team.0))
    .bind(member.user.as_str())
    .bind(member.by.as_str())
    .execute(session)
    .await?;
    Ok(())
}

/// A person does not belong to the team any more.
pub(super) async fn remove_member(
    session: &mut PgConnection,
    shard: Shard,
    member: &TeamMember,
) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM team_member WHERE shard = $1 AND team = $2 AND user_id = $3")
        .bind(shard.number())
        .bind(number(member.team.0))
        .bind(member.user.as_str())
        .execute(session)
        .await?;
    Ok(())
}
