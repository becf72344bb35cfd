//! Checks whether this api can read the tables' version. The persister creates the tables and is upgraded first; an
//! api that is upgraded before it is not ready until then.

use service::schema::VERSION;
use sqlx::PgConnection;
use tokio::sync::watch;

/// The version that the tables state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SchemaVersion {
    /// The newest migration that was applied; 0 if there is none.
    applied: i64,
    /// The lowest version that a program must know, if the tables state one.
    minimum: Option<i64>,
}

/// Compares the tables' version with this program's at each readiness check.
pub(crate) struct SchemaCheck {
    /// Set to true by the first check that does not find an unfit version.
    may_serve: watch::Sender<bool>,
    /// The finding that was logged last, so that a repeated one is not logged again.
    last_logged: Option<String>,
}

impl SchemaCheck {
    pub(crate) const fn new(fits: watch::Sender<bool>) -> Self {
        Self { may_serve: fits, last_logged: None }
    }

    /// Judges an answer of Postgres.
    ///
    /// # Errors
    /// Says why this node can't work: Postgres does not answer, or the tables' version is unfit.
    pub(crate) fn check(&mut self, looked: sqlx::Result<SchemaVersion>) -> Result<(), String> {
        let judged = match looked {
            Ok(version) => {
                let judged = require_supported(version);
                if let Err(reason) = &judged
                    && self.last_logged.as_ref() != Some(reason)
                {
                    tracing::warn!(reason, "the tables do not fit this version");
                    self.last_logged = Some(reason.clone());
                }
                judged?;
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "could not read the schema version");
                Err("Postgres does not answer".to_owned())
            }
        };
        self.may_serve.send_if_modified(|fits| !std::mem::replace(fits, true));
        judged
    }
}

/// Reads the tables' version.
///
/// # Errors
/// Fails if Postgres does not answer.
pub(crate) async fn read_version(connection: &mut PgConnection) -> sqlx::Result<SchemaVersion> {
    let query = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success");
    let applied: Option<i64> = absent_is_none(query.fetch_one(&mut *connection).await)?;
    let query = sqlx::query_scalar("SELECT max(minimum) FROM schema_compatibility");
    let minimum = absent_is_none(query.fetch_one(connection).await)?;
    Ok(SchemaVersion { applied: applied.unwrap_or(0), minimum })
}

/// Treats a missing table as one without rows.
fn absent_is_none<T>(read: sqlx::Result<Option<T>>) -> sqlx::Result<Option<T>> {
    match read {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => Ok(None),
        read => read,
    }
}

fn require_supported(SchemaVersion { applied, minimum }: SchemaVersion) -> Result<(), String> {
    if applied < VERSION {
        Err(format!(
            "the tables are of schema version {applied}, this api needs {VERSION}: upgrade the persister"
        ))
    } else if let Some(minimum) = minimum.filter(|minimum| *minimum > VERSION) {
        Err(format!("the tables need schema version {minimum}, this api knows {VERSION}: upgrade this api"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_check_names_the_program_to_upgrade() {
        let compared = |applied, minimum| require_supported(SchemaVersion { applied, minimum });
        assert_eq!(compared(VERSION, None), Ok(()));
        assert_eq!(compared(VERSION + 5, Some(VERSION)), Ok(()), "later versions only add");
        let older = compared(VERSION - 1, None).expect_err("too old");
        assert!(older.ends_with("upgrade the persister"), "{older}");
        assert!(compared(0, None).is_err(), "no tables yet");
        let breaking = compared(VERSION + 5, Some(VERSION + 1)).expect_err("too new");
        assert!(breaking.ends_with("upgrade this api"), "{breaking}");
    }
}
