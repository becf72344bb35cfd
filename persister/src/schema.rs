//! Migrations: run once at start, as the owner of the tables where there is such a role.

use anyhow::Context as _;
use shared::id::{Shard, ShardCount};
use sqlx::{PgConnection, migrate::Migrator};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Brings the tables up to date, and makes the watermarks of a new deployment.
///
/// # Errors
/// Also when the database belongs to a deployment of another number of shards.
pub(crate) async fn prepare(session: &mut PgConnection, shards: ShardCount) -> anyhow::Result<()> {
    // Whoever has no such role has a database of their own, and makes the tables as themselves.
    let owner: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_roles
                        WHERE rolname = 'roomcast_owner' AND pg_has_role(current_user, oid, 'MEMBER'))",
    )
    .fetch_one(&mut *session)
    .await?;
    // A lock that another persister's migration holds may take longer than a batch ever should.
    sqlx::raw_sql("SET statement_timeout = '5min'; SET lock_timeout = '5min'").execute(&mut *session).await?;
    if owner {
        sqlx::raw_sql("SET ROLE roomcast_owner").execute(&mut *session).await?;
    }
    let migrated = MIGRATIONS.run_direct(None, &mut *session, false).await;
    migrated.context("DATABASE_URL: the tables could not be brought up to date")?;
    sqlx::raw_sql("RESET ROLE").execute(&mut *session).await?;

    let numbers: Vec<i16> = shards.all().map(Shard::number).collect();
    // All or none, so that their number is the deployment's from the first moment on.
    sqlx::query(
        "INSERT INTO watermark (shard, seq) SELECT n, 0 FROM unnest($1::int2[]) AS n
         WHERE NOT EXISTS (SELECT FROM watermark) ON CONFLICT DO NOTHING",
    )
    .bind(&numbers)
    .execute(&mut *session)
    .await?;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM watermark").fetch_one(&mut *session).await?;
    let found = rows - 1;
    if found != i64::from(shards.get()) {
        anyhow::bail!(
            "ROOMCAST_SHARDS is {}, but the database has {found} shards: it can't change",
            shards.get()
        );
    }
    Ok(())
}
