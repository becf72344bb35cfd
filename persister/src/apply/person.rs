//! People: what the newest token says is true, and what no token says stays as it was.

use shared::{event::Profile, id::Shard};
use sqlx::{PgConnection, types::Json};

/// Merges what a token says into what is known.
pub(super) async fn merge(session: &mut PgConnection, shard: Shard, profile: &Profile) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO person (shard, user_id, profile, issued_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (shard, user_id) DO UPDATE
         SET profile = CASE WHEN excluded.issued_at >= person.issued_at
                            THEN person.profile || excluded.profile
                            ELSE excluded.profile || person.profile END,
             issued_at = greatest(person.issued_at, excluded.issued_at)",
    )
    .bind(shard.number())
    .bind(profile.user.as_str())
    .bind(Json(&profile.person))
    .bind(profile.issued_at)
    .execute(session)
    .await?;
    Ok(())
}
