//! Starts the one-machine program `roomcast up`, with a broker and a database of the harness.

use crate::{
    cluster::{SECRET, program},
    eventually,
    folder::Folder,
    nats::Nats,
    postgres::Database,
    process::{Process, command, free_port},
};

/// A running `roomcast up`: one port for clients, and an admin port.
#[derive(Debug)]
pub struct Machine {
    _process: Process,
    port: u16,
    admin: u16,
    /// The broker.
    pub nats: Nats,
    /// The database.
    pub database: Database,
    _folder: Folder,
}

impl Machine {
    /// Starts the program, and waits until it is ready.
    ///
    /// # Panics
    /// When the process exits, or is not ready within [`TIMEOUT`](crate::TIMEOUT).
    pub async fn start() -> Self {
        // Only the first call in a process installs the provider; later calls fail, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (nats, database, folder) = (Nats::start().await, Database::shared(), Folder::new());
        let (port, admin) = (free_port(), free_port());
        let mut command = command(&program("roomcast"));
        command.arg("up").env("ROOMCAST_LISTEN", format!("127.0.0.1:{port}"));
        command.env("ROOMCAST_ADMIN_LISTEN", format!("127.0.0.1:{admin}"));
        command.env("ROOMCAST_JWT_SECRET", SECRET);
        command.env("ROOMCAST_MEDIA", folder.path().join("media"));
        for service in ["api", "fanout", "persister"] {
            let name = service.to_uppercase();
            command.env(format!("ROOMCAST_{name}_NATS_URL"), nats.url(service));
            command
                .env(format!("ROOMCAST_{name}_DATABASE_URL"), database.url(&format!("roomcast_{service}")));
        }
        let mut process = Process::start("roomcast", folder.path(), &mut command);
        eventually("roomcast is ready", || {
            assert!(process.ended().is_none(), "roomcast ended:\n{}", process.tail());
            let ready = format!("http://127.0.0.1:{port}/readyz");
            async { reqwest::get(ready).await.ok().filter(|answer| answer.status().is_success()) }
        })
        .await;
        Self { _process: process, port, admin, nats, database, _folder: folder }
    }

    /// The address for clients.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address of metrics and readiness.
    #[must_use]
    pub fn admin(&self) -> String {
        format!("127.0.0.1:{}", self.admin)
    }
}
