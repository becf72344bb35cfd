//! Folders for what servers write, gone when the test process is, however it ends.
//!
//! What must hold: all are in one folder of the process, and a guardian outside of it removes that
//! one: it reads from a pipe that only the end of the process closes, even a kill -9.

use std::{
    fs::Permissions,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
};

use tempfile::TempDir;

/// What is dead may still write for a moment: its folder is removed until it is gone.
const GUARD: &str = r#"cat; until rm -rf "$1" 2>&1; do sleep 0.1; done"#;

/// The folder of this process, and its guardian.
struct All {
    path: PathBuf,
    _guardian: Child,
}

static ALL: LazyLock<All> = LazyLock::new(|| {
    let folder = tempfile::Builder::new().prefix("roomcast-tests-").tempdir().expect("a folder");
    let path = folder.keep();
    // PostgreSQL may run as another user: it has to get through.
    std::fs::set_permissions(&path, Permissions::from_mode(0o711)).expect("our own folder");
    let mut guardian = Command::new("sh");
    guardian.args(["-c", GUARD, "guardian"]).arg(&path).current_dir("/");
    guardian.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // A Ctrl-C is for the tests: the guardian outlives them.
    let guardian = guardian.process_group(0).spawn().expect("a shell");
    All { path, _guardian: guardian }
});

/// A folder that is removed when it is dropped, and at the latest when the process ends.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    /// A new one.
    ///
    /// # Panics
    /// When it can't be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each is another folder: none is the default one")]
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("").tempdir_in(&ALL.path).expect("a folder"))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
