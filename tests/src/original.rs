//! Starts the originals of dialects (`reference/*.py`), and compares them with Roomcast.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{
    cluster::SECRET,
    eventually,
    folder::Folder,
    process::{Process, command, free_port},
};

/// A running server that a dialect imitates.
#[derive(Debug)]
pub struct Original {
    process: Process,
    port: u16,
    _folder: Folder,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reference").join(name)
}

/// A Python with Django; `deploy/test` installs it.
fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/originals/bin/python");
    std::env::var_os("ROOMCAST_TEST_ORIGINALS_PYTHON").map_or(own, PathBuf::from)
}

impl Original {
    /// Starts `reference/<name>.py`, and waits until it accepts connections.
    ///
    /// # Panics
    /// When the process exits, or does not listen within [`TIMEOUT`](crate::TIMEOUT).
    pub async fn start(name: &str) -> Self {
        let (folder, port) = (Folder::new(), free_port());
        let mut command = command(&python());
        command.arg(script(&format!("{name}.py"))).args([&port.to_string(), SECRET]).arg(folder.path());
        let mut process = Process::start(name, folder.path(), &mut command);
        eventually("the original listens", || {
            assert!(
                process.ended().is_none(),
                "the original runs; deploy/test installs it\n{}",
                process.tail()
            );
            async { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok() }
        })
        .await;
        Self { process, port, _folder: folder }
    }

    /// The address that the server listens on.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The last 30 lines of the server's output.
    #[must_use]
    pub fn tail(&self) -> String {
        self.process.tail()
    }
}

/// Runs `reference/<name>`, which sends the requests of its table to both servers and compares the answers.
///
/// # Panics
/// When Python is not installed.
pub async fn compare(name: &str, arguments: Vec<String>) -> Output {
    // Debian's Python, which has Debian's package python3-websockets.
    let mut python = Command::new("/usr/bin/python3");
    python.arg(script(name)).args(arguments);
    let output = tokio::task::spawn_blocking(move || python.output()).await;
    output.expect("the script runs").expect("python3")
}

/// The intended differences that `reference/<name>` lists: request, and reason.
///
/// # Panics
/// When the script has no such list.
#[must_use]
pub fn differences(name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(script(name)).expect("a script");
    let (_, list) = text.split_once("\nDIFFERENCES = {\n").expect("a list");
    let (list, _) = list.split_once("\n}\n").expect("its end");
    let entries = list.lines().map(|line| {
        let (request, reason) =
            line.trim().split_once("\": \"").or_else(|| line.trim().split_once("': \"")).expect("an entry");
        (request.trim_matches(['"', '\'']).to_owned(), reason.trim_end_matches("\",").to_owned())
    });
    entries.collect()
}
