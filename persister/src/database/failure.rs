//! Classifies failures of Postgres by what may be done next.

/// Why a transaction failed, or may have failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseFailure {
    /// Postgres refuses the data and always will: nothing was written.
    #[error("refused by Postgres: {0}")]
    Data(sqlx::Error),
    /// Postgres failed, and the cause is known neither to lie in the data nor to be temporary: nothing was written.
    #[error("Postgres failed for an unknown reason: {0}")]
    Unexplained(sqlx::Error),
    /// A statement took too long: nothing was written.
    #[error("a statement took too long: {0}")]
    TimedOut(sqlx::Error),
    /// The session was lost: the transaction may be committed or not. Reading the watermark shows which.
    #[error("the database session was lost: {0}")]
    Lost(sqlx::Error),
}

impl From<sqlx::Error> for DatabaseFailure {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code());
        match classify_sqlstate(code.as_deref()) {
            _ if matches!(error, sqlx::Error::Encode(_)) => Self::Data(error),
            FailureCause::Data => Self::Data(error),
            FailureCause::Unexplained => Self::Unexplained(error),
            FailureCause::Timeout => Self::TimedOut(error),
            FailureCause::Database => Self::Lost(error),
        }
    }
}

impl DatabaseFailure {
    /// The failure as a value of the metrics' label `outcome`.
    pub(crate) const fn metric_label(&self) -> &'static str {
        match self {
            Self::Data(_) => "data",
            Self::Unexplained(_) => "unexplained",
            Self::TimedOut(_) => "timed_out",
            Self::Lost(_) => "lost",
        }
    }
}

/// Where a failure lies, as far as its SQLSTATE shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailureCause {
    /// In the data: every attempt fails.
    Data,
    /// A statement was cancelled because it took too long.
    Timeout,
    /// In the connection, or in the state of the database: it passes, or an operator repairs it.
    Database,
    /// Unknown.
    Unexplained,
}

/// Classifies a SQLSTATE, mostly by its class, the first two characters. Where a restart, an operator, free space or
/// the end of another transaction can help, the cause is the database, and no event is ever rejected for it. Class 42
/// belongs here: all statements are fixed, so it means that a table, a column or a permission is missing.
fn classify_sqlstate(code: Option<&str>) -> FailureCause {
    let Some(code) = code else { return FailureCause::Database };
    match code.get(..2) {
        // Cardinality violation, data exception, integrity constraint violation, check option violation,
        // program limit exceeded.
        Some("21" | "22" | "23" | "44" | "54") => FailureCause::Data,
        // `query_canceled`.
        _ if code == "57014" => FailureCause::Timeout,
        // `data_corrupted` and `index_corrupted`, in the class of internal errors.
        _ if code == "XX001" || code == "XX002" => FailureCause::Database,
        Some(
            "08" | "0A" | "25" | "26" | "28" | "3D" | "3F" | "40" | "42" | "53" | "55" | "57" | "58" | "F0"
            | "HV",
        ) => FailureCause::Database,
        _ => FailureCause::Unexplained,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstate_decides_how_a_failure_is_handled() {
        for data in ["21000", "22021", "22P05", "22003", "23505", "23502", "54000"] {
            assert_eq!(classify_sqlstate(Some(data)), FailureCause::Data, "{data}");
        }
        for database in [
            "08006", "25006", "40001", "40P01", "42P01", "42501", "53100", "53200", "55P03", "57P01",
            "57P03", "58030", "XX001",
        ] {
            assert_eq!(classify_sqlstate(Some(database)), FailureCause::Database, "{database}");
        }
        for unexplained in ["XX000", "P0001", "38000", "2F000", ""] {
            assert_eq!(classify_sqlstate(Some(unexplained)), FailureCause::Unexplained, "{unexplained}");
        }
        assert_eq!(classify_sqlstate(Some("57014")), FailureCause::Timeout);
        assert_eq!(classify_sqlstate(None), FailureCause::Database);
        let lost = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(matches!(DatabaseFailure::from(lost), DatabaseFailure::Lost(_)));
    }
}
