//! The one-machine program `roomcast up`, with a broker and a database of the harness.

use crate::{
    cluster::{SECRET, program},
    eventually,
    folder::Folder,
    nats::Nats,
    postgres::Database,
    process::{Process, command, free_port},
};

/// A running `roomcast up`: api and sockets on one port, and an admin port beside it.
#[derive(Debug)]
pub struct Machine {
    _process: Process,
    port: u16,
    admin: u16,
    _nats: Nats,
    /// The database.
    pub database: Database,
    _folder: Folder,
}

impl Machine {
    /// Starts it, and waits until it is ready.
    ///
    /// # Panics
    /// When it ends, or is not ready in time.
    pub async fn start() -> Self {
        // One provider of cryptography, set once a process.
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
        Self { _process: process, port, admin, _nats: nats, database, _folder: folder }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it says how it is.
    #[must_use]
    pub fn admin(&self) -> String {
        format!("127.0.0.1:{}", self.admin)
    }
}
