//! Lends connections to Postgres for reads: a server that is gone without a word costs a moment, not a connection.
//!
//! What must hold: no query waits longer than [`QUERY_TIMEOUT`], and a connection is used again only once its last
//! answer has been read to the end: whatever was not answered in time, or was given up by its asker, is closed.
//! (sqlx waits without bound for a connection that it takes back; and its sockets can't be given a keep-alive.)

use std::{
    fmt,
    io::{self, ErrorKind},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use futures_util::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use metrics::Counter;
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

/// How long an answer waits for what it appended to be in Postgres.
pub(crate) const APPLIED_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a query may take. A fan-out node gives its request up after 5 s.
const QUERY_TIMEOUT: Duration = Duration::from_millis(4_500);
/// How long Postgres lets one run: where the link is alive, it is Postgres that gives up.
const STATEMENT_TIMEOUT_MS: &str = "4000";
/// How long a query waits for a connection, a new one included: where they are all busy for longer, it is refused.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a look at the readiness of Postgres may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A pool of connections, cheap to clone.
#[derive(Clone)]
pub(crate) struct ReadPool {
    pool: PgPool,
    options: Arc<PgConnectOptions>,
    /// When a query last failed in a way that others may fail in too. Connections that were idle at that moment
    /// are not used any more.
    last_failure_at: watch::Sender<Option<Instant>>,
    timeouts_total: Counter,
}

impl fmt::Debug for ReadPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Database")
    }
}

impl ReadPool {
    /// A pool of so many connections, which are opened when they are needed.
    ///
    /// # Errors
    /// When the configuration is wrong.
    pub(crate) fn open(database: &DatabaseArgs, connections: u32) -> anyhow::Result<Self> {
        let url = database.database_url.as_deref().context("DATABASE_URL is not set")?;
        let options: PgConnectOptions =
            url.parse().context("DATABASE_URL is not postgres://user:password@host:port/database")?;
        // Reads only, and none for long: all that Postgres lets this role do is SELECT.
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
            // A ping before each query costs as much as the query.
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

    /// A connection for several statements.
    ///
    /// # Errors
    /// When there is none in time.
    pub(crate) async fn acquire(&self) -> Result<AcquiredConnection, Error> {
        Ok(AcquiredConnection(Some(self.pool.acquire().await?)))
    }

    /// Waits for an answer, but not for ever. The connection it is waited for on has to be dropped on an error.
    ///
    /// # Errors
    /// Those of what is asked, or a time-out.
    pub(crate) async fn with_timeout<T>(
        &self,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if let Ok(answer) = timeout(QUERY_TIMEOUT, asked).await {
            if answer.as_ref().is_err_and(is_stale_plan_error) {
                self.last_failure_at.send_replace(Some(Instant::now()));
            }
            return answer;
        }
        self.timeouts_total.increment(1);
        self.last_failure_at.send_replace(Some(Instant::now()));
        tracing::warn!(
            seconds = QUERY_TIMEOUT.as_secs_f64(),
            "no answer from Postgres in time: the connection is closed"
        );
        Err(io::Error::from(ErrorKind::TimedOut).into())
    }

    /// Whether Postgres answers, over a connection apart from the others: theirs may all be busy.
    pub(crate) const fn probe(&self) -> DatabaseProbe<'_> {
        DatabaseProbe { database: self, connection: None }
    }
}

/// Whether a connection's prepared statement has a result of another type since the tables were changed. It fails
/// each time on that connection, and works on a new one.
fn is_stale_plan_error(error: &Error) -> bool {
    // feature_not_supported: "cached plan must not change result type". Nothing else that api asks for is that.
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some("0A000")
}

/// A connection that is in use. It is closed where it is dropped before it is given back.
#[derive(Debug)]
pub(crate) struct AcquiredConnection(Option<PoolConnection<Postgres>>);

impl AcquiredConnection {
    /// Its last answer has been read: others may use it.
    fn release(mut self) {
        if let Some(mut connection) = self.0.take() {
            // A ping before it is free again; sqlx alone would wait for that without bound.
            let returned = connection.return_to_pool();
            tokio::spawn(timeout(PROBE_TIMEOUT, returned));
        }
    }

    /// Ends its use. After an error that Postgres itself has answered with it may be used again, but for one that
    /// its prepared statements would meet each time.
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

    /// The connection itself.
    ///
    /// # Errors
    /// Never, while it is in use.
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
        let asked = async move {
            let mut connection = self.acquire().await?;
            let rows = connection.inner()?.fetch_many(query).try_collect::<Vec<_>>();
            let rows = self.with_timeout(rows).await;
            connection.release_after(rows)
        };
        stream::once(asked).map_ok(|rows| stream::iter(rows).map(Ok)).try_flatten().boxed()
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

/// Looks whether Postgres answers.
#[derive(Debug)]
pub(crate) struct DatabaseProbe<'a> {
    database: &'a ReadPool,
    connection: Option<PgConnection>,
}

impl DatabaseProbe<'_> {
    /// Asks for the tables' version, which needs this role's rights.
    ///
    /// # Errors
    /// When there is no answer in time; the next look uses another connection.
    pub(crate) async fn read_schema_version(&mut self) -> Result<SchemaVersion, Error> {
        let mut connection = self.connection.take();
        let asked = async {
            let connected = match connection.take() {
                Some(connected) => connected,
                None => self.database.options.connect().await?,
            };
            let connected = connection.insert(connected);
            record_clock_offset(connected).await?;
            schema::read_version(connected).await
        };
        let looked = timeout(PROBE_TIMEOUT, asked)
            .await
            .map_err(|_| Error::from(io::Error::from(ErrorKind::TimedOut)));
        let version = looked??;
        self.connection = connection;
        Ok(version)
    }
}

/// Notes how far this node's clock is ahead of the clock of Postgres, to which all api nodes compare theirs.
async fn record_clock_offset(connection: &mut PgConnection) -> Result<(), Error> {
    let here = || SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
    let before = here();
    let asked = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::float8");
    let postgres: f64 = asked.fetch_one(connection).await?;
    metrics::gauge!(names::CLOCK_OFFSET_SECONDS).set(f64::midpoint(before, here()) - postgres);
    Ok(())
}

/// What the caller is answered for an error of a query.
pub(crate) fn query_error(error: &Error) -> protocol::error::Error {
    match error {
        Error::ColumnDecode { .. } | Error::ColumnNotFound(_) | Error::Decode(_) => {
            protocol::error::Error::internal(error)
        }
        other => protocol::error::Error::unavailable("The database", other),
    }
}
