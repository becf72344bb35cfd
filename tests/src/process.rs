//! Starts child processes that end with the test, however it ends.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// A command whose process is killed when the thread that starts it ends, also where that is killed itself.
#[must_use]
pub fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

impl Process {
    /// Starts a command; its output goes to `<name>.log` in `folder`.
    ///
    /// # Panics
    /// When the program can't be started.
    pub fn start(name: &str, folder: &Path, command: &mut Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { child, log }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process with SIGKILL, and waits for it.
    pub fn kill9(&mut self) {
        // The process may have exited by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal, by its name without `SIG`.
    ///
    /// # Panics
    /// When the process has exited.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, "--"]).arg(self.child.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "the process is gone:\n{}", self.tail());
    }

    /// Sends SIGTERM, and waits for the process to exit.
    ///
    /// # Panics
    /// When it has not exited after a minute.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not stop:\n{}", self.tail());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The exit status, if the process has exited.
    ///
    /// # Panics
    /// When the process can't be waited for, which does not happen to our own child.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// All output of the process so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last 30 lines of the output.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = self.log();
        let lines: Vec<_> = text.lines().rev().take(30).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Ports below Linux's range of ephemeral ports (32768 and up): the kernel gives none of them to another socket
/// between our check and the child's bind.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A port that is free now, and that this process has not returned before.
///
/// # Panics
/// When no port is free.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random_range(PORTS)));
    let ports = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed)).take(PORTS.len() * 4);
    let mut free =
        ports.filter(|port| PORTS.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().expect("a free port")
}
