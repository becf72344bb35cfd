//! Makes folders for servers' files, which are removed when the test process ends, even by SIGKILL.
//!
//! What must hold: all folders are in one folder of the process. A second process, the guardian, removes that folder
//! when its standard input is closed: only the end of the test process closes that pipe.

use std::{
    fs::Permissions,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
};

use tempfile::TempDir;

/// The guardian's script. Dying servers may still write for a moment, so it removes the folder until that succeeds.
const GUARD: &str = r#"cat; until rm -rf "$1" 2>&1; do sleep 0.1; done"#;

/// The folder of this process, and its guardian.
struct All {
    path: PathBuf,
    _guardian: Child,
}

static ALL: LazyLock<All> = LazyLock::new(|| {
    let folder = tempfile::Builder::new().prefix("roomcast-tests-").tempdir().expect("a folder");
    let path = folder.keep();
    // PostgreSQL may run as another user, which must be able to enter the folder.
    std::fs::set_permissions(&path, Permissions::from_mode(0o711)).expect("our own folder");
    let mut guardian = Command::new("sh");
    guardian.args(["-c", GUARD, "guardian"]).arg(&path).current_dir("/");
    guardian.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // In its own process group, so that a Ctrl-C does not end the guardian.
    let guardian = guardian.process_group(0).spawn().expect("a shell");
    All { path, _guardian: guardian }
});

/// A folder that is removed when it is dropped, and at the latest when the process ends.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    /// Makes a new folder.
    ///
    /// # Panics
    /// When the folder can't be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each is another folder: none is the default one")]
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("").tempdir_in(&ALL.path).expect("a folder"))
    }

    /// The folder's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
