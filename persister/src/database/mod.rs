//! Opens database sessions: pooled ones that write batches, and single ones for other work.
//!
//! What must hold: a session whose last transaction failed is never used again, every statement has a time-out, and no
//! message shows the database's address.

mod failure;

use std::{str::FromStr as _, time::Duration};

use anyhow::Context as _;
use deadpool::{
    Runtime,
    managed::{Manager, Metrics, Object, Pool, RecycleError, RecycleResult},
};
use service::metric_names::PERSISTER_SESSIONS;
use sqlx::{
    ConnectOptions as _, Connection as _,
    postgres::{PgConnectOptions, PgConnection},
};

use crate::config::WriteDatabaseArgs;
pub(crate) use failure::DatabaseFailure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum wait for a pooled session. Others hold one for at most one transaction.
const POOL_WAIT_TIMEOUT: Duration = Duration::from_secs(15);

/// Opens sessions of one database.
#[derive(Clone)]
pub(crate) struct DatabaseConnector {
    options: PgConnectOptions,
}

impl DatabaseConnector {
    pub(crate) fn new(args: &WriteDatabaseArgs) -> anyhow::Result<Self> {
        // The parser's own message may contain a part of the URL, and with it the password.
        let options = PgConnectOptions::from_str(&args.database_url)
            .ok()
            .context("DATABASE_URL is not postgres://user:password@host:port/name")?
            .application_name("roomcast-persister")
            // The server closes the session of a vanished persister, and frees its locks, within half a minute.
            .options([
                ("statement_timeout", "10s"),
                ("lock_timeout", "5s"),
                ("idle_in_transaction_session_timeout", "15s"),
                ("tcp_keepalives_idle", "10"),
                ("tcp_keepalives_interval", "5"),
                ("tcp_keepalives_count", "3"),
            ])
            .options(service::schema::PLANNER)
            .disable_statement_logging();
        Ok(Self { options })
    }

    /// The same database with another `statement_timeout`, as PostgreSQL writes it (`5s`).
    pub(crate) fn with_statement_timeout(self, limit: &str) -> Self {
        Self { options: self.options.options([("statement_timeout", limit)]) }
    }

    /// Opens a session outside any pool.
    pub(crate) async fn connect(&self) -> anyhow::Result<PgConnection> {
        let attempt = tokio::time::timeout(CONNECT_TIMEOUT, self.options.connect());
        attempt
            .await
            .context("the database did not answer in time")?
            .context("the database refused the connection")
    }
}

impl Manager for DatabaseConnector {
    type Type = PgConnection;
    type Error = anyhow::Error;

    async fn create(&self) -> anyhow::Result<PgConnection> {
        self.connect().await
    }

    async fn recycle(&self, session: &mut PgConnection, _: &Metrics) -> RecycleResult<anyhow::Error> {
        session.ping().await.map_err(|error| RecycleError::Backend(error.into()))
    }
}

/// A bounded pool of sessions for one purpose. `name` is its label in the metrics.
#[derive(Clone)]
pub(crate) struct SessionPool {
    name: &'static str,
    pool: Pool<DatabaseConnector>,
}

impl SessionPool {
    pub(crate) fn new(
        name: &'static str,
        database: DatabaseConnector,
        sessions: u16,
    ) -> anyhow::Result<Self> {
        let pool = Pool::builder(database)
            .max_size(usize::from(sessions))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(POOL_WAIT_TIMEOUT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .recycle_timeout(Some(PING_TIMEOUT))
            .build()?;
        Ok(Self { name, pool })
    }

    /// Maximum sessions of the pool.
    pub(crate) fn max_sessions(&self) -> usize {
        self.pool.status().max_size
    }

    /// Takes a session from the pool, waiting for up to [`POOL_WAIT_TIMEOUT`]. If the result is dropped without
    /// [`PooledSession::give_back`], the session is closed.
    pub(crate) async fn take(&self) -> anyhow::Result<PooledSession> {
        let pooled =
            self.pool.get().await.map_err(|error| anyhow::anyhow!("no database session: {error}"))?;
        let status = self.pool.status();
        let (size, idle) = (u32::try_from(status.size)?, u32::try_from(status.available)?);
        metrics::gauge!(PERSISTER_SESSIONS, "pool" => self.name, "state" => "idle").set(idle);
        metrics::gauge!(PERSISTER_SESSIONS, "pool" => self.name, "state" => "busy")
            .set(size.saturating_sub(idle));
        Ok(PooledSession { pooled: Some(pooled) })
    }
}

/// A session of the pool, held exclusively.
pub(crate) struct PooledSession {
    pooled: Option<Object<DatabaseConnector>>,
}

impl PooledSession {
    pub(crate) fn session(&mut self) -> &mut PgConnection {
        self.pooled.as_mut().expect("the session is there until give_back, which consumes self")
    }

    /// Returns the session to the pool. Call it only after the transaction has succeeded.
    pub(crate) fn give_back(mut self) {
        drop(self.pooled.take());
    }
}

impl Drop for PooledSession {
    fn drop(&mut self) {
        if let Some(pooled) = self.pooled.take() {
            // Its state is unknown: it is closed, and the server rolls back an open transaction.
            drop(Object::take(pooled));
        }
    }
}

/// Converts a sequence or a validated id to a `bigint`.
pub(crate) fn to_i64(value: u64) -> i64 {
    // Sequences and validated ids are below 2^53.
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Converts a time of the broker to nanoseconds since 1970, for a `bigint`.
pub(crate) fn unix_nanos(moment: time::OffsetDateTime) -> i64 {
    // Fits until the year 2262.
    i64::try_from(moment.unix_timestamp_nanos()).unwrap_or(i64::MAX)
}
