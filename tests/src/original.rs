//! The originals of dialects, as `reference/` has them, and their comparison with Roomcast.

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

/// A running original.
#[derive(Debug)]
pub struct Original {
    process: Process,
    port: u16,
    _folder: Folder,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reference").join(name)
}

/// The Python that has Django: `deploy/test` makes it.
fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/originals/bin/python");
    std::env::var_os("ROOMCAST_TEST_ORIGINALS_PYTHON").map_or(own, PathBuf::from)
}

impl Original {
    /// Starts `reference/<name>.py`, and waits until it takes requests.
    ///
    /// # Panics
    /// When it ends, or is not there in time.
    pub async fn start(name: &str) -> Self {
        let (folder, port) = (Folder::new(), free_port());
        let mut command = command(&python());
        command.arg(script(&format!("{name}.py"))).args([&port.to_string(), SECRET]).arg(folder.path());
        let mut process = Process::start(name, folder.path(), &mut command);
        eventually("the original listens", || {
            assert!(process.ended().is_none(), "it ended: deploy/test installs it\n{}", process.tail());
            async { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok() }
        })
        .await;
        Self { process, port, _folder: folder }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The end of what it printed.
    #[must_use]
    pub fn tail(&self) -> String {
        self.process.tail()
    }
}

/// Asks both what `reference/<script>` has in its table.
///
/// # Panics
/// When there is no Python.
pub async fn compare(name: &str, arguments: Vec<String>) -> Output {
    // Debian's own, which has Debian's websockets.
    let mut python = Command::new("/usr/bin/python3");
    python.arg(script(name)).args(arguments);
    let output = tokio::task::spawn_blocking(move || python.output()).await;
    output.expect("it runs").expect("python3")
}

/// What `reference/<script>` lists as different on purpose: what is asked, and why.
///
/// # Panics
/// When the script has no such list.
#[must_use]
pub fn differences(name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(script(name)).expect("a script");
    let (_, list) = text.split_once("\nDIFFERENCES = {\n").expect("a list");
    let (list, _) = list.split_once("\n}\n").expect("its end");
    let entries = list.lines().map(|line| {
        let (asked, why) =
            line.trim().split_once("\": \"").or_else(|| line.trim().split_once("': \"")).expect("an entry");
        (asked.trim_matches(['"', '\'']).to_owned(), why.trim_end_matches("\",").to_owned())
    });
    entries.collect()
}
