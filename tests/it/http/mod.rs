//! What an HTTP server does before any dialect: connections, headers, bodies that are refused, origins.

mod connections;
mod cors;
mod handshake;
mod labels;
mod metrics;
mod refused_bodies;

use tests::{
    cluster::{SECRET, program},
    eventually,
    folder::Folder,
    nats::Nats,
    postgres::Database,
    process::{Process, command, free_port},
};

/// `roomcast up`: all services in one process, on one port, and an admin port beside it.
struct Up {
    address: String,
    admin: String,
    _process: Process,
    _nats: Nats,
    _folder: Folder,
}

impl Up {
    /// Starts it, and waits until it is ready.
    async fn start() -> Self {
        let (folder, nats, database) = (Folder::new(), Nats::start().await, Database::shared());
        let [address, admin] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
        let mut command = command(&program("roomcast"));
        command.arg("up").env("ROOMCAST_JWT_SECRET", SECRET);
        command.env("ROOMCAST_LISTEN", &address).env("ROOMCAST_ADMIN_LISTEN", &admin);
        command.env("ROOMCAST_MEDIA", folder.path().join("media"));
        for service in ["api", "fanout", "persister"] {
            let name = |what: &str| format!("ROOMCAST_{}_{what}_URL", service.to_uppercase());
            command.env(name("NATS"), nats.url(service));
            command.env(name("DATABASE"), database.url(&format!("roomcast_{service}")));
        }
        let mut process = Process::start("roomcast", folder.path(), &mut command);
        eventually("roomcast is ready", || {
            assert!(process.ended().is_none(), "it ended:\n{}", process.tail());
            let url = format!("http://{address}/readyz");
            async move { reqwest::get(url).await.ok().filter(|answer| answer.status().is_success()) }
        })
        .await;
        Self { address, admin, _process: process, _nats: nats, _folder: folder }
    }
}
