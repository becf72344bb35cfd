//! Starts, stops, pauses and inspects a process of a service.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::OnceLock,
};

use crate::{
    eventually,
    process::{Process, command, free_port},
    proxy::Proxy,
};

/// One process of a service.
#[derive(Debug)]
pub struct Node {
    program: String,
    process: Process,
    port: u16,
    admin: u16,
    environment: Vec<(&'static str, String)>,
    folder: PathBuf,
    proxy: Option<Proxy>,
}

/// The path of a program of this workspace, built if necessary.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    programs().join(name)
}

/// The folder of the workspace's programs. The first call builds them, so that `cargo test` alone is enough.
fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let test = std::env::current_exe().expect("our own path");
        let folder = test.ancestors().nth(2).expect("target/<profile>/deps/it").to_owned();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--workspace", "--bins", "--tests"]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        // Cargo sets these variables for this test. Build scripts depend on them, so cargo would rebuild half of the
        // dependencies each time.
        for (name, _) in std::env::vars_os() {
            let own = ["CARGO_PKG_", "CARGO_MANIFEST_"];
            if own.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                build.env_remove(name);
            }
        }
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo");
        assert!(built.success(), "the programs do not build");
        folder
    })
}

impl Node {
    pub(super) fn start(
        service: &str,
        folder: &Path,
        n: usize,
        environment: Vec<(&'static str, String)>,
        proxy: Option<Proxy>,
    ) -> Self {
        let (port, admin) = (free_port(), free_port());
        let program = format!("roomcast-{service}");
        let folder = folder.join(format!("{program}-{n}"));
        std::fs::create_dir(&folder).expect("a folder");
        let process = Self::spawn(&program, &folder, port, admin, &environment);
        Self { program, process, port, admin, environment, folder, proxy }
    }

    fn spawn(
        program: &str,
        folder: &Path,
        port: u16,
        admin: u16,
        environment: &[(&'static str, String)],
    ) -> Process {
        let mut command = command(&self::program(program));
        command.env("ROOMCAST_LISTEN", format!("127.0.0.1:{port}"));
        command.env("ROOMCAST_ADMIN_LISTEN", format!("127.0.0.1:{admin}"));
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Process::start(program, folder, &mut command)
    }

    /// The address for clients.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The proxy between this node and the broker or the database.
    ///
    /// # Panics
    /// When the cluster was not started by `start_with_proxies`, or this service has no proxy.
    #[must_use]
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the cluster was started with proxies for this service")
    }

    /// All output of the process so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The last 30 lines of the output.
    #[must_use]
    pub fn tail(&self) -> String {
        self.process.tail()
    }

    /// Kills the process with SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Sends SIGTERM and waits for the process to exit.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.terminate()
    }

    /// Sends SIGSTOP. Until [`Self::resume`] its connections stay open but nothing is answered.
    pub fn pause(&mut self) {
        self.process.signal("STOP");
    }

    /// Sends SIGCONT.
    pub fn resume(&mut self) {
        self.process.signal("CONT");
    }

    /// Starts the program again on the same ports. A process that still runs is killed.
    pub fn restart(&mut self) {
        self.process = Self::spawn(&self.program, &self.folder, self.port, self.admin, &self.environment);
    }

    /// Sets an environment variable for the next start.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.environment.retain(|(old, _)| *old != name);
        self.environment.push((name, value.into()));
    }

    /// Resident memory of the process, in KiB.
    ///
    /// # Panics
    /// When the process has ended.
    #[must_use]
    pub fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("a running process");
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
        memory.expect("a line of memory").trim().parse().expect("a number")
    }

    /// Number of open file descriptors of the process.
    ///
    /// # Panics
    /// When the process has ended.
    #[must_use]
    pub fn open_files(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.process.id());
        std::fs::read_dir(folder).expect("a running process").count()
    }

    /// The body of `/readyz`; `None` where the node does not answer.
    pub async fn readyz(&self) -> Option<String> {
        reqwest::get(format!("http://127.0.0.1:{}/readyz", self.admin)).await.ok()?.text().await.ok()
    }

    /// Waits until `/readyz` answers 2xx.
    ///
    /// # Panics
    /// When the process exits, or is not ready within [`TIMEOUT`](crate::TIMEOUT).
    pub async fn wait_until_ready(&mut self) {
        let address = format!("http://127.0.0.1:{}/readyz", self.admin);
        eventually(&format!("{} is ready", self.program), || {
            assert!(self.process.ended().is_none(), "{} ended:\n{}", self.program, self.process.tail());
            let address = address.clone();
            async move { reqwest::get(address).await.ok().filter(|answer| answer.status().is_success()) }
        })
        .await;
    }

    /// The body of `/metrics`.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn metrics(&self) -> String {
        let answer = reqwest::get(format!("http://127.0.0.1:{}/metrics", self.admin)).await;
        answer.expect("the admin port answers").text().await.expect("text")
    }
}
