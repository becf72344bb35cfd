//! Lends connections to Postgres for reads, with a bound on every wait.
//!
//! What must hold: no query waits longer than [`QUERY_TIMEOUT`], and a connection is reused only after its last
//! answer was read to the end. A connection whose query timed out, or was dropped by its caller, is closed. (sqlx
//! waits without a bound when it takes a connection back, and its sockets can't be given a keep-alive.)

use std::{
    fmt,
    io::{self, ErrorKind},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use futures_util::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use metrics::Counter;
use protocol::clock::Timestamp;
use service::metric_names as names;
use sqlx::{
    ConnectOptions as _, Describe, Either, Error, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    config::DatabaseArgs,
    schema::{self, SchemaVersion},
};

/// How long a request waits until Postgres has what it appended.
pub(crate) const APPLIED_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum time of a query. A fan-out node gives up its request after 5 s.
const QUERY_TIMEOUT: Duration = Duration::from_millis(4_500);
/// Maximum time of a statement in Postgres. It is below [`QUERY_TIMEOUT`], so that a reachable Postgres cancels the
/// statement and the connection is kept.
const STATEMENT_TIMEOUT_MS: &str = "4000";
/// How long a query waits for a connection, a new one included; then it fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum time of a readiness check of Postgres.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A pool of connections, cheap to clone.
#[derive(Clone)]
pub(crate) struct ReadPool {
    pool: PgPool,
    options: Arc<PgConnectOptions>,
    /// When a query last failed in a way that other connections may fail in too. Connections that were idle at that
    /// moment are not used again.
    last_failure_at: watch::Sender<Option<Instant>>,
    timeouts_total: Counter,
}

impl fmt::Debug for ReadPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Database")
    }
}

impl ReadPool {
    /// Makes a pool of at most `connections`, which are opened when they are needed.
    ///
    /// # Errors
    /// Fails if the configuration is wrong.
    pub(crate) fn open(database: &DatabaseArgs, connections: u32) -> anyhow::Result<Self> {
        let url = database.database_url.as_deref().context("DATABASE_URL is not set")?;
        let options: PgConnectOptions =
            url.parse().context("DATABASE_URL is not postgres://user:password@host:port/database")?;
        // The sessions only read; Postgres grants this role SELECT alone.
        let options = options.application_name("roomcast-api").options([
            ("statement_timeout", STATEMENT_TIMEOUT_MS),
            ("default_transaction_read_only", "on"),
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
        ]);
        let options = options.options(service::schema::PLANNER);
        let trusted_since = watch::Sender::new(None::<Instant>);
        let since = trusted_since.subscribe();
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // A ping before each query would cost as much as the query.
            .test_before_acquire(false)
            .before_acquire(move |_, connection| {
                let was_idle = since.borrow().is_some_and(|at| at.elapsed() < connection.idle_for);
                std::future::ready(Ok(!was_idle)).boxed()
            })
            .connect_lazy_with(options.clone());
        let given_up_total = metrics::counter!(names::DATABASE_GIVEN_UP_TOTAL);
        Ok(Self {
            pool,
            options: Arc::new(options),
            last_failure_at: trusted_since,
            timeouts_total: given_up_total,
        })
    }

    /// Acquires a connection for several statements.
    ///
    /// # Errors
    /// Fails if none is free within [`ACQUIRE_TIMEOUT`].
    pub(crate) async fn acquire(&self) -> Result<AcquiredConnection, Error> {
        Ok(AcquiredConnection(Some(self.pool.acquire().await?)))
    }

    /// Runs a query for at most [`QUERY_TIMEOUT`]. After an error the caller must drop the connection, or pass the
    /// error to [`AcquiredConnection::release_after`].
    ///
    /// # Errors
    /// Fails with the query's error, or with a timeout.
    pub(crate) async fn with_timeout<T>(
        &self,
        query: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if let Ok(answer) = timeout(QUERY_TIMEOUT, query).await {
            if answer.as_ref().is_err_and(is_stale_plan_error) {
                self.last_failure_at.send_replace(Some(Instant::now()));
            }
            return answer;
        }
        self.timeouts_total.increment(1);
        self.last_failure_at.send_replace(Some(Instant::now()));
        tracing::warn!(
            seconds = QUERY_TIMEOUT.as_secs_f64(),
            "Postgres did not answer in time; closing the connection"
        );
        Err(io::Error::from(ErrorKind::TimedOut).into())
    }

    /// Makes a probe of Postgres with a connection of its own, since those of the pool may all be busy.
    pub(crate) const fn probe(&self) -> DatabaseProbe<'_> {
        DatabaseProbe { database: self, connection: None }
    }
}

/// Returns whether a prepared statement's result type has changed because a table was altered. The statement then
/// fails on this connection each time, and works on a new one.
fn is_stale_plan_error(error: &Error) -> bool {
    // `feature_not_supported`: "cached plan must not change result type". No query of api has another reason for it.
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some("0A000")
}

/// A connection in use. It is closed when it is dropped without being released.
#[derive(Debug)]
pub(crate) struct AcquiredConnection(Option<PoolConnection<Postgres>>);

impl AcquiredConnection {
    /// Returns the connection to the pool after its last answer was read.
    fn release(mut self) {
        if let Some(mut connection) = self.0.take() {
            // sqlx pings the connection before it is free again, without a bound of its own.
            let returned = connection.return_to_pool();
            tokio::spawn(timeout(PROBE_TIMEOUT, returned));
        }
    }

    /// Ends the use of a connection and passes the answer through. The connection is kept after an answer, and after
    /// an error that Postgres reported, unless its prepared statements would fail each time.
    pub(crate) fn release_after<T>(self, answer: Result<T, Error>) -> Result<T, Error> {
        let is_usable = match &answer {
            Ok(_) => true,
            Err(error) => matches!(error, Error::Database(_)) && !is_stale_plan_error(error),
        };
        if is_usable {
            self.release();
        }
        answer
    }

    /// Returns the connection itself.
    ///
    /// # Errors
    /// Never fails while the connection is in use.
    pub(crate) fn inner(&mut self) -> Result<&mut PgConnection, Error> {
        self.0.as_deref_mut().ok_or(Error::PoolClosed)
    }
}

impl Drop for AcquiredConnection {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

impl<'p> Executor<'p> for &'p ReadPool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let query = async move {
            let mut connection = self.acquire().await?;
            let rows = connection.inner()?.fetch_many(query).try_collect::<Vec<_>>();
            let rows = self.with_timeout(rows).await;
            connection.release_after(rows)
        };
        stream::once(query).map_ok(|rows| stream::iter(rows).map(Ok)).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        async move {
            let mut connection = self.acquire().await?;
            let row = connection.inner()?.fetch_optional(query);
            let row = self.with_timeout(row).await;
            connection.release_after(row)
        }
        .boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        async move {
            let mut connection = self.acquire().await?;
            let described = connection.inner()?.describe(sql);
            let described = self.with_timeout(described).await;
            connection.release_after(described)
        }
        .boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        async move {
            let mut connection = self.acquire().await?;
            let statement = connection.inner()?.prepare_with(sql, parameters);
            let statement = self.with_timeout(statement).await;
            connection.release_after(statement)
        }
        .boxed()
    }
}

/// Checks whether Postgres answers.
#[derive(Debug)]
pub(crate) struct DatabaseProbe<'a> {
    database: &'a ReadPool,
    connection: Option<PgConnection>,
}

impl DatabaseProbe<'_> {
    /// Reads the version of the tables, which also checks this role's rights.
    ///
    /// # Errors
    /// Fails if there is no answer within [`PROBE_TIMEOUT`]; the next check opens another connection.
    pub(crate) async fn read_schema_version(&mut self) -> Result<SchemaVersion, Error> {
        let mut connection = self.connection.take();
        let query = async {
            let connected = match connection.take() {
                Some(connected) => connected,
                None => self.database.options.connect().await?,
            };
            let connected = connection.insert(connected);
            record_clock_offset(connected).await?;
            schema::read_version(connected).await
        };
        let looked = timeout(PROBE_TIMEOUT, query)
            .await
            .map_err(|_| Error::from(io::Error::from(ErrorKind::TimedOut)));
        let version = looked??;
        self.connection = connection;
        Ok(version)
    }
}

/// Records how far this node's clock is ahead of the clock of Postgres, which all api nodes compare theirs with.
async fn record_clock_offset(connection: &mut PgConnection) -> Result<(), Error> {
    let here = || Timestamp::now().unix_us() as f64 / 1e6;
    let before = here();
    let query = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::float8");
    let postgres: f64 = query.fetch_one(connection).await?;
    metrics::gauge!(names::CLOCK_OFFSET_SECONDS).set(f64::midpoint(before, here()) - postgres);
    Ok(())
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    /// Postgres did not answer, or not in the expected form.
    #[error(transparent)]
    Database(#[from] Error),
    /// A row holds what this version can't read, or the query was given up.
    #[error(transparent)]
    Refused(#[from] protocol::error::Error),
}

/// The error for the caller: the one place that decides it.
impl From<QueryError> for protocol::error::Error {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Database(
                error @ (Error::ColumnDecode { .. } | Error::ColumnNotFound(_) | Error::Decode(_)),
            ) => Self::internal(&error),
            QueryError::Database(error) => Self::unavailable("The database", &error),
            QueryError::Refused(error) => error,
        }
    }
}
