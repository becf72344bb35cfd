//! A real nats-server, with the configuration that is shipped.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    eventually,
    folder::Folder,
    process::{Process, command},
};

/// The password of every user: the server is alone with its test.
pub const PASSWORD: &str = "secret";

/// A running server with a store of its own.
#[derive(Debug)]
pub struct Nats {
    process: Process,
    port: u16,
    folder: Folder,
}

fn program() -> PathBuf {
    std::env::var_os("ROOMCAST_TEST_NATS_SERVER").map_or_else(|| "nats-server".into(), PathBuf::from)
}

fn spawn(folder: &Path, port: &str) -> Process {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nats/one.conf");
    let mut command = command(&program());
    command.arg("-c").arg(config).args(["-a", "127.0.0.1", "-p", port]);
    command.arg("--ports_file_dir").arg(folder);
    command.env("NATS_STORE_DIR", format!("{:?}", folder.join("store")));
    for user in ["API", "FANOUT", "PERSISTER"] {
        command.env(format!("NATS_{user}_PASSWORD"), PASSWORD);
    }
    Process::start("nats", folder, &mut command)
}

impl Nats {
    /// Starts a server on a free port.
    pub async fn start() -> Self {
        let folder = Folder::new();
        let mut process = spawn(folder.path(), "-1");
        let port = eventually("nats-server tells its port", || {
            let port = read_port(folder.path());
            assert!(process.ended().is_none(), "nats-server ended:\n{}", process.tail());
            std::future::ready(port)
        });
        let port = port.await;
        Self { process, port, folder }
    }

    /// Its address, for one of the three users.
    #[must_use]
    pub fn url(&self, user: &str) -> String {
        format!("nats://{user}:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// Its address without a user.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Where it keeps the log.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Ends it as a crash would.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it again, on the same port and store.
    pub fn restart(&mut self) {
        self.process = spawn(self.folder.path(), &self.port.to_string());
    }
}

/// The port in the file that the server writes once it listens.
fn read_port(folder: &Path) -> Option<u16> {
    let mut files = std::fs::read_dir(folder).ok()?.flatten();
    let file = files.find(|file| file.path().extension().is_some_and(|end| end == "ports"))?;
    let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?;
    ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
}
