//! Runs migrations once at start, as role `roomcast_owner` if the connected user is a member of it.
//!
//! What must hold: persisters of two versions work on one database. So a migration only adds, a released migration
//! never changes, and a persister starts on tables of a later version. A migration that breaks older programs raises
//! `schema_compatibility.minimum` to its own number; those programs then refuse to start. Readers never wait for long:
//! a statement that locks them out waits for its lock for 2 s at most and is then retried, and its transaction does no
//! slow work.

use std::time::Duration;

use anyhow::Context as _;
use protocol::id::{Shard, ShardCount};
use service::schema;
use sqlx::{
    AssertSqlSafe, PgConnection,
    migrate::{MigrateError, Migrator},
};
use tokio::time::sleep;

/// Settings of a migrating session. All readers of a table queue behind a statement that waits for its exclusive lock,
/// behind a dump for example: `lock_timeout` ends that wait before the readers' own time-out (4 s in api), and later
/// than the second after which PostgreSQL cancels an autovacuum that holds the lock. Building an index has no limit.
///
/// The planner's settings get PostgreSQL's own defaults back: migrations read whole tables, fastest by sequential scans
/// and hashes, which [`schema::PLANNER`] switches off. RESET would only go back to what the session began with.
const MIGRATION_SETTINGS: &str = "
SELECT set_config(name, value, false) FROM (
    VALUES ('statement_timeout', '0'), ('lock_timeout', '2s')
    UNION ALL SELECT name, boot_val FROM pg_settings WHERE name = ANY ($1)
) AS setting (name, value)";
/// Pause between attempts of a migration to get its lock; readers proceed meanwhile.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_secs(3);

/// The migrations of this version. Migrations that a later version has applied are ignored.
fn migrations() -> Migrator {
    let mut migrations = sqlx::migrate!("./migrations");
    migrations.set_ignore_missing(true);
    migrations
}

/// Migrates the tables, and inserts the watermarks of a new deployment. The session keeps the settings of migrations,
/// so use it only for starting.
///
/// # Errors
/// Also when the database belongs to a deployment with another number of shards, or its tables are of a later version
/// that excludes this program.
pub(crate) async fn prepare(session: &mut PgConnection, shards: ShardCount) -> anyhow::Result<()> {
    // Without that role the tables belong to the user who connects.
    let is_owner_member: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_roles
                        WHERE rolname = 'roomcast_owner' AND pg_has_role(current_user, oid, 'MEMBER'))",
    )
    .fetch_one(&mut *session)
    .await?;
    let planner_settings: Vec<&str> = schema::PLANNER.iter().map(|(name, _)| *name).collect();
    sqlx::query(MIGRATION_SETTINGS).bind(planner_settings).execute(&mut *session).await?;
    if is_owner_member {
        sqlx::raw_sql("SET ROLE roomcast_owner").execute(&mut *session).await?;
    }
    refuse_incompatible(session).await?;
    let version_before = version(session).await?;
    migrate(session).await.context("DATABASE_URL: the tables could not be brought up to date")?;
    // New tables and indexes have no statistics until autovacuum analyses them.
    if version_before < version(session).await?
        && let Err(error) = analyze(session).await
    {
        tracing::warn!(
            %error,
            "ANALYZE failed after the migrations: autovacuum will gather the statistics later"
        );
    }
    sqlx::raw_sql("RESET ROLE").execute(&mut *session).await?;

    let numbers: Vec<i16> = shards.all().map(Shard::number).collect();
    // All rows or none, so that their number always matches the deployment's number of shards.
    sqlx::query(
        "INSERT INTO watermark (shard, seq) SELECT n, 0 FROM unnest($1::int2[]) AS n
         WHERE NOT EXISTS (SELECT FROM watermark) ON CONFLICT DO NOTHING",
    )
    .bind(&numbers)
    .execute(&mut *session)
    .await?;
    let watermark_rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM watermark").fetch_one(&mut *session).await?;
    let existing_shards = watermark_rows - 1;
    if existing_shards != i64::from(shards.get()) {
        anyhow::bail!(
            "ROOMCAST_SHARDS is {}, but the database has {existing_shards} shards: the number can't change",
            shards.get()
        );
    }
    Ok(())
}

/// Gathers statistics of the tables. Takes seconds, since PostgreSQL reads samples.
async fn analyze(session: &mut PgConnection) -> sqlx::Result<()> {
    let tables: String = sqlx::query_scalar(
        "SELECT string_agg(c.oid::regclass::text, ', ') FROM pg_class c
         WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
           AND pg_has_role(current_user, c.relowner, 'USAGE')",
    )
    .fetch_one(&mut *session)
    .await?;
    sqlx::raw_sql(AssertSqlSafe(format!("ANALYZE {tables}"))).execute(session).await?;
    Ok(())
}

/// The newest migration that was applied; 0 if none was.
async fn version(session: &mut PgConnection) -> sqlx::Result<i64> {
    let table_exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *session)
        .await?;
    if !table_exists {
        return Ok(0);
    }
    let query = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success");
    query.fetch_one(session).await
}

/// Runs the migrations. Retries without limit while another session holds a lock that one of them needs.
async fn migrate(session: &mut PgConnection) -> Result<(), MigrateError> {
    let migrations = migrations();
    loop {
        match migrations.run_direct(None, &mut *session, false).await {
            Err(error) if is_locked(&error) => {
                tracing::warn!(
                    %error,
                    "a migration waits for a lock that another session holds, a dump or another persister's \
                     migration: trying again in {} s",
                    LOCK_RETRY_INTERVAL.as_secs()
                );
            }
            result => return result,
        }
        // A failed run keeps the migrator's advisory lock, which lets one persister migrate at a time.
        sqlx::raw_sql("SELECT pg_advisory_unlock_all()").execute(&mut *session).await?;
        sleep(LOCK_RETRY_INTERVAL).await;
    }
}

/// Whether a migration failed because of a lock: `lock_timeout` passed, or a deadlock was detected.
fn is_locked(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(|error| error.code());
    // 55P03: lock_not_available; 40P01: deadlock_detected.
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}

/// Fails if the tables require programs of a later version.
async fn refuse_incompatible(session: &mut PgConnection) -> anyhow::Result<()> {
    let table_exists: bool = sqlx::query_scalar("SELECT to_regclass('schema_compatibility') IS NOT NULL")
        .fetch_one(&mut *session)
        .await?;
    if !table_exists {
        return Ok(());
    }
    let minimum: Option<i64> =
        sqlx::query_scalar("SELECT max(minimum) FROM schema_compatibility").fetch_one(&mut *session).await?;
    match minimum {
        Some(minimum) if minimum > schema::VERSION => anyhow::bail!(
            "DATABASE_URL: its tables need programs that know schema version {minimum}, and this one knows {}: \
             upgrade this persister",
            schema::VERSION
        ),
        _ => Ok(()),
    }
}

/// Fails if the tables lack a migration of this version, because no persister of this version has started yet.
pub(crate) async fn require_current(session: &mut PgConnection) -> anyhow::Result<()> {
    refuse_incompatible(session).await?;
    let version = version(session).await?;
    anyhow::ensure!(version > 0, "DATABASE_URL: not a database of Roomcast");
    anyhow::ensure!(
        version >= schema::VERSION,
        "DATABASE_URL: its tables are of an older version: start a persister of this version first"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASED: &str = include_str!("../migrations/released.sums");

    fn number(file: &str) -> i64 {
        let (number, _) = file.split_once('_').expect("<number>_<what>.sql");
        number.parse().expect("a number")
    }

    #[test]
    fn released_migration_is_unchanged() {
        let migrations = migrations();
        let mut last_released = 0;
        for line in RELEASED.lines().filter(|line| !line.starts_with('#')) {
            let (sum, file) = line.split_once(' ').expect("<checksum> <file>");
            let migration = migrations.iter().find(|migration| migration.version == number(file));
            let migration = migration.unwrap_or_else(|| panic!("{file} is gone"));
            let checksum: String = migration.checksum.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(checksum, sum, "{file} was released and must not change: add a new migration");
            last_released = last_released.max(migration.version);
        }
        let is_released = |version| version <= last_released;
        let released_count = migrations.iter().filter(|migration| is_released(migration.version)).count();
        let listed_count = RELEASED.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(
            released_count, listed_count,
            "a new migration has a number above those that were released"
        );
    }

    /// The part of an upper-case statement that removes something which older programs need.
    fn incompatible_change(statement: &str) -> Option<&'static str> {
        let incompatible = ["DROP TABLE", "DROP COLUMN", "DROP DEFAULT", "RENAME", "SET NOT NULL"];
        let phrase = incompatible.into_iter().find(|phrase| statement.contains(*phrase));
        // A new type or collation of a column invalidates the prepared statements of older programs.
        let changes_type = statement.contains("ALTER TABLE") && statement.contains(" TYPE ");
        phrase.or(changes_type.then_some("ALTER TABLE ... TYPE"))
    }

    #[test]
    fn migration_that_removes_something_raises_the_minimum_version() {
        assert_eq!(
            incompatible_change("ALTER TABLE a ALTER b TYPE TEXT COLLATE \"C\""),
            Some("ALTER TABLE ... TYPE")
        );
        for migration in migrations().iter() {
            let sql: Vec<&str> = migration
                .sql
                .as_str()
                .lines()
                .map(|line| line.split("--").next().unwrap_or_default())
                .collect();
            let sql = sql.join(" ").to_uppercase();
            if let Some(change) = sql.split(';').find_map(incompatible_change) {
                assert!(
                    sql.contains("UPDATE SCHEMA_COMPATIBILITY"),
                    "{} has {change}: older programs fail on it, so it must raise schema_compatibility.minimum",
                    migration.description
                );
            }
        }
    }
}
