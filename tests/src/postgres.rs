//! Starts a real PostgreSQL: one server per test process, and a database with its roles per test.

use std::{
    net::SocketAddr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{
    folder::Folder,
    process::{Process, free_port},
};

/// The password of every role: the server only serves these tests.
const PASSWORD: &str = "secret";

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
    folder: Folder,
}

static SHARED: LazyLock<Postgres> = LazyLock::new(|| {
    // Children die with the thread that starts them (see `setpriv` below): this thread never ends.
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = send.send(Postgres::start());
        loop {
            std::thread::park();
        }
    });
    receive.recv().expect("a server")
});

/// A database with its roles.
#[derive(Clone, Debug)]
pub struct Database {
    port: u16,
    name: String,
}

fn bin(program: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> =
        versions.map(|v| v.path().join("bin").join(program)).filter(|p| p.exists()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| program.into())
}

fn is_root() -> bool {
    // `/proc/self` belongs to the user of this process.
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

fn id_of_postgres(flag: &str) -> u32 {
    let output = Command::new("id").args([flag, "postgres"]).output().expect("id");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a user named postgres")
}

/// A command of PostgreSQL's programs, which refuse to run as root: there it runs as user postgres. The process dies
/// with the thread that starts it.
fn command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(bin(program)).current_dir("/");
    command
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

impl Postgres {
    /// Starts a server for one test, which can stop or kill it. It runs without fsync.
    ///
    /// # Panics
    /// When the server does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = Folder::new();
        if is_root() {
            let (uid, gid) = (id_of_postgres("-u"), id_of_postgres("-g"));
            chown(folder.path(), Some(uid), Some(gid)).expect("a folder of its own");
        }
        let data = folder.path().join("data");
        run(command("initdb").args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8"]).arg(&data));
        let port = free_port();
        let process = spawn(folder.path(), port);
        let this = Self { process, port, folder };
        this.wait();
        this
    }

    fn wait(&self) {
        let port = self.port.to_string();
        let deadline = std::time::Instant::now() + crate::TIMEOUT;
        while !Command::new(bin("pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-p", &port])
            .status()
            .is_ok_and(|status| status.success())
        {
            assert!(std::time::Instant::now() < deadline, "postgres:\n{}", self.process.tail());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// The server's log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Kills the server with SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts the server again, on the same port and data.
    pub fn restart(&mut self) {
        self.process = spawn(self.folder.path(), self.port);
        self.wait();
    }

    /// Creates a database with the roles of `deploy/postgres/roles.sql`.
    ///
    /// # Panics
    /// When the database can't be created.
    #[must_use]
    pub fn database(&self) -> Database {
        self.database_with("")
    }

    /// Creates a database with the roles, and with these options of `CREATE DATABASE`.
    ///
    /// # Panics
    /// When the database can't be created.
    #[must_use]
    pub fn database_with(&self, options: &str) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Roles belong to the whole server: two tests must not create them at the same time.
        static MAKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _making = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let name = format!("roomcast_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let database = Database { port: self.port, name };
        run(psql(self.port, "postgres")
            .arg("-c")
            .arg(format!("CREATE DATABASE {} {options}", database.name)));
        let roles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/postgres/roles.sql");
        let mut command = psql(self.port, &database.name);
        for role in ["persister", "api"] {
            command.arg("-v").arg(format!("{role}_password={PASSWORD}"));
        }
        run(command.arg("-v").arg(format!("database={}", database.name)).arg("-f").arg(roles));
        database
    }
}

fn psql(port: u16, database: &str) -> Command {
    let mut command = Command::new("psql");
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres", "-d", database]);
    command.args(["-p", &port.to_string()]);
    command
}

fn spawn(folder: &Path, port: u16) -> Process {
    let mut command = command("postgres");
    command.arg("-D").arg(folder.join("data")).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k", ""]);
    command.args(["-c", "fsync=off", "-c", "max_connections=500"]);
    Process::start("postgres", folder, &mut command)
}

impl Database {
    /// Creates a database on the server that all tests of the process share.
    #[must_use]
    pub fn shared() -> Self {
        SHARED.database()
    }

    /// Creates a database on the shared server with the ICU locale `en-US`, which sorts `a`, `B`, `c`.
    #[must_use]
    pub fn with_english_order() -> Self {
        SHARED.database_with("TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
    }

    /// Applies the migrations up to a schema version, as an older persister would have done.
    ///
    /// # Panics
    /// When a migration fails.
    pub async fn migrate_to(&self, version: i64) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../persister/migrations");
        let migrator = sqlx::migrate::Migrator::new(folder).await.expect("migrations");
        let mut session = self.pool().await.acquire().await.expect("a session").detach();
        sqlx::raw_sql("SET ROLE roomcast_owner").execute(&mut session).await.expect("a role");
        migrator.run_direct(Some(version), &mut session, false).await.expect("the tables are made");
    }

    /// The database's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The database's URL for one of the roles; `postgres` is the superuser.
    #[must_use]
    pub fn url(&self, role: &str) -> String {
        format!("postgres://{role}:{PASSWORD}@127.0.0.1:{}/{}", self.port, self.name)
    }

    /// The address that the server listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// A pool of at most two connections as superuser.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn pool(&self) -> sqlx::PgPool {
        let options = sqlx::postgres::PgPoolOptions::new().max_connections(2);
        options.connect(&self.url("postgres")).await.expect("the server answers")
    }
}
