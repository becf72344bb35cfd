//! Up to where a shard's log is in Postgres. Moving it by compare-and-set, first in every
//! transaction, is what makes each event apply exactly once.

use shared::id::Shard;
use sqlx::PgConnection;

/// Where the shard stands.
pub(crate) async fn read(session: &mut PgConnection, shard: Shard) -> anyhow::Result<u64> {
    let seq: i64 = sqlx::query_scalar("SELECT seq FROM watermark WHERE shard = $1")
        .bind(shard.number())
        .fetch_one(session)
        .await?;
    Ok(u64::try_from(seq)?)
}

/// Moves it; false where somebody else has moved it meanwhile.
pub(crate) async fn advance(
    session: &mut PgConnection,
    shard: Shard,
    from: u64,
    to: u64,
) -> sqlx::Result<bool> {
    let moved = sqlx::query("UPDATE watermark SET seq = $3 WHERE shard = $1 AND seq = $2")
        .bind(shard.number())
        .bind(number(from))
        .bind(number(to))
        .execute(session)
        .await?;
    Ok(moved.rows_affected() == 1)
}

/// A sequence or a checked id as Postgres holds it.
pub(crate) fn number(value: u64) -> i64 {
    // Sequences and checked ids are below 2^53.
    i64::try_from(value).unwrap_or(i64::MAX)
}
