//! What can't be applied, kept whole for a person to look at.

use shared::id::Shard;
use sqlx::PgConnection;

use crate::batch::Rejected;

/// Notes events that can't be applied.
pub(crate) async fn insert(
    session: &mut PgConnection,
    shard: Shard,
    rejected: &[Rejected],
) -> sqlx::Result<()> {
    for event in rejected {
        sqlx::query(
            "INSERT INTO rejected_event (shard, seq, subject, payload, headers, reason)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(shard.number())
        .bind(event.seq)
        .bind(&event.subject)
        .bind(&event.payload)
        .bind(&event.headers)
        .bind(&event.reason)
        .execute(&mut *session)
        .await?;
    }
    Ok(())
}
