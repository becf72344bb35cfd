//! Measures the cost of a row of `message` in PostgreSQL, by `UNNEST` and by `COPY`, and the cost of each index, on a
//! throw-away deployment of `deploy/up`.
//!
//!     rows <data folder>
//!
//! Stop `roomcast` (`kill -STOP`), so that nothing else is measured. Rows are written into copies of the real tables,
//! one batch per transaction. The result is the CPU time of the PostgreSQL backend and of this program.

use std::{env, fmt::Write as _, path::Path};

use anyhow::{Context as _, bail};
use bench::deployment::{cpu_seconds, read_data_file};
use protocol::{clock::Timestamp, event::ChatMessage, id::RoomId};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

/// Maximum numbers of rows and of transactions of a measurement.
const ROWS: usize = 50_000;
const TRANSACTIONS: usize = 500;
const ROOMS: usize = 500;
const SHARD: &str = "0";
const AUTHOR: &str = "7";
const BODY: &str = "A message of 108 bytes, more or less, as people write them all day long: hello, how are you, and the like.";

/// How rows are written.
#[derive(Clone, Copy, Debug)]
enum InsertMethod {
    /// By one `INSERT … SELECT FROM UNNEST` with arrays.
    Unnest,
    /// By `COPY`, as text.
    Copy,
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "this is a command-line program")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [data] = arguments.as_slice() else { bail!("usage: rows <data folder>") };
    let mut session = open(Path::new(data)).await?;
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut session).await?;
    for batch in [10, 100, 1_000, 5_000] {
        for method in [InsertMethod::Unnest, InsertMethod::Copy] {
            create_tables(&mut session, "INCLUDING ALL").await?;
            let cost = measure_inserts(&mut session, backend, method, batch).await?;
            println!("{method:?}, {batch} rows per transaction: {cost}");
        }
    }
    create_tables(&mut session, "INCLUDING DEFAULTS").await?;
    println!("no index: {}", measure_inserts(&mut session, backend, InsertMethod::Unnest, 1_000).await?);
    session.execute("ALTER TABLE measured.message ADD PRIMARY KEY (shard, room, id)").await?;
    session.execute("TRUNCATE measured.message").await?;
    println!(
        "the primary key alone: {}",
        measure_inserts(&mut session, backend, InsertMethod::Unnest, 1_000).await?
    );
    let before = (cpu_seconds(backend)?, cpu_seconds("self")?);
    session.execute(SEARCH).await?;
    println!("the search index, in addition: {}", Cost::since(before, backend, ROWS)?);
    session.execute("DROP SCHEMA measured CASCADE").await?;
    Ok(())
}

/// The statement by which messages are indexed for search, as in the persister.
const SEARCH: &str = "INSERT INTO measured.message_search (shard, room, id, created_at, words)
    SELECT shard, room, id, created_at, to_tsvector('simple', left(body, 16384)) FROM measured.message";

async fn open(data: &Path) -> anyhow::Result<PgConnection> {
    let (password, port) =
        (read_data_file(data, "secrets/postgres-admin")?, read_data_file(data, "ports/postgres")?);
    let url = format!("postgres://postgres:{password}@127.0.0.1:{port}/roomcast");
    PgConnection::connect(&url).await.context("PostgreSQL")
}

/// Creates empty copies of `message` and `message_search`.
async fn create_tables(session: &mut PgConnection, including: &str) -> sqlx::Result<()> {
    let tables = format!(
        "DROP SCHEMA IF EXISTS measured CASCADE;
         CREATE SCHEMA measured;
         SET search_path TO measured;
         CREATE TABLE measured.message (LIKE public.message {including});
         CREATE TABLE measured.message_search (LIKE public.message_search INCLUDING ALL)"
    );
    session.execute(AssertSqlSafe(tables)).await?;
    Ok(())
}

/// CPU microseconds per row.
struct Cost {
    backend: f64,
    here: f64,
}

impl Cost {
    fn since((backend, here): (f64, f64), pid: i32, rows: usize) -> anyhow::Result<Self> {
        let us_per_row = |seconds: f64| seconds * 1e6 / rows as f64;
        Ok(Self {
            backend: us_per_row(cpu_seconds(pid)? - backend),
            here: us_per_row(cpu_seconds("self")? - here),
        })
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} µs per row in PostgreSQL, {:.1} in this program", self.backend, self.here)
    }
}

async fn measure_inserts(
    session: &mut PgConnection,
    backend: i32,
    method: InsertMethod,
    batch: usize,
) -> anyhow::Result<Cost> {
    let before = (cpu_seconds(backend)?, cpu_seconds("self")?);
    let rows = ROWS.min(batch * TRANSACTIONS);
    for first in (0..rows).step_by(batch) {
        let mut transaction = session.begin().await?;
        match method {
            InsertMethod::Unnest => unnest(&mut transaction, first, batch).await?,
            InsertMethod::Copy => copy(&mut transaction, first, batch).await?,
        }
        transaction.commit().await?;
    }
    Cost::since(before, backend, rows)
}

/// Inserts a batch with the persister's own code.
async fn unnest(session: &mut PgConnection, first: usize, batch: usize) -> anyhow::Result<()> {
    let message = |id: usize| ChatMessage {
        message: BODY.to_owned(),
        room: RoomId((id % ROOMS) as u64),
        user: AUTHOR.parse().expect("a valid user id"),
        created_at: Timestamp::now(),
        client_id: None,
        detail: None,
    };
    let messages: Vec<_> = (first..first + batch).map(|id| (id as u64, message(id))).collect();
    Ok(persister::bench::insert(session, SHARD.parse()?, &messages).await?)
}

async fn copy(session: &mut PgConnection, first: usize, batch: usize) -> anyhow::Result<()> {
    let mut rows = String::new();
    for id in first..first + batch {
        writeln!(rows, "{SHARD}\t{}\t{id}\t{AUTHOR}\t{BODY}\t\\N\t1970-01-01 00:00:00+00\t\\N", id % ROOMS)?;
    }
    let columns = "shard, room, id, author, body, client_id, created_at, detail";
    let statement = format!("COPY measured.message ({columns}) FROM STDIN");
    let mut copy = session.copy_in_raw(&statement).await?;
    copy.send(rows.into_bytes()).await?;
    copy.finish().await?;
    Ok(())
}
